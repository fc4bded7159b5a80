"""``sharpscope report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpscope.cli.options import Json, StoreFolder


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
        print(f"report: {page}")
