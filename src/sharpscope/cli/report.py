"""``sharpscope report`` and ``sharpscope export``: a store as a page and as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sharpscope.cli.options import Json, StoreFolder
from sharpscope.cli.streams import say


def report(
    store: StoreFolder,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FOLDER", help="Where to write it.  [default: STORE/report]"),
    ] = None,
    figures: Annotated[bool, typer.Option(help="Also write every figure as SVG and PNG.")] = False,
    json: Json = False,
) -> None:
    """Write the report of a store: one HTML page, and the tables as CSV and Parquet.

    The page needs no network and nothing but the store; it shows whatever is done so far.
    """
    from sharpscope.cli.printing import print_json
    from sharpscope.studies import collect_all, write_reports
    from sharpscope.sweep import Store

    opened = Store(store, create=False)
    page = write_reports(collect_all(opened), output or opened.root / "report", figures=figures)
    if json:
        print_json({"report": str(page), "folder": str(page.parent)})
    else:
        say(f"report: {page}")


def export(
    store: StoreFolder,
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="Where to write the tables.")],
    form: Annotated[
        Literal["csv", "parquet"], typer.Option("--format", help="As what to write them.")
    ] = "csv",
    json: Json = False,
) -> None:
    """Write the tables of a store, whatever part of it is done: results, measures, history and what else there is.

    Of a store of several studies each has a folder of its own. The same store gives the same bytes.
    """
    from sharpscope.cli.printing import print_json
    from sharpscope.studies import collect_all, write_tables
    from sharpscope.sweep import Store

    files = write_tables(collect_all(Store(store, create=False)), output, form)
    if json:
        print_json({"files": [str(file) for file in files]})
    else:
        for file in files:
            say(str(file))
