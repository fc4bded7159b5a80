"""From tables to the report's folder: the page, the tables as files, the figures if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.errors import StoreError
from sharpscope.studies.results.records import Record, command_of
from sharpscope.studies.results.tables import Tables

if TYPE_CHECKING:
    import pandas as pd

    from sharpscope.analysis.claims.verdict import Verdict
    from sharpscope.report import PaperFigure

_SETTINGS = ("data", "model", "optimizer", "lr", "batch_size", "seed")
"""Columns of the table of runs that say how a run was made, beside the study's own axes."""


def write_reports(tables: Mapping[str, Tables], folder: Path, *, figures: bool = False) -> Path:
    """Write the report of every study of a store into a folder; return the path of the page to open.

    One study's report is the folder's own. Of several, each has a folder of its name, and the folder's page and
    ``tables/verdicts`` are an index of all claims. Raises `StoreError` where the folder cannot be written.
    """
    if len(tables) == 1:
        return write_report(next(iter(tables.values())), folder, figures=figures)
    import pandas as pd

    from sharpscope.analysis.claims.verdict import verdicts_table
    from sharpscope.report import build_index, save_tables
    from sharpscope.serialization import write_whole

    judged, listed = [], []
    for name, one in tables.items():
        write_report(one, folder / name, figures=figures)
        verdicts = one.verdicts
        table = verdicts_table(verdicts)
        table.insert(0, "study", [one.study["key"]] * len(table))
        judged.append(table)
        listed.append((one.study["key"], title_of(one), f"{name}/index.html", verdicts))
    with _writable(folder):
        save_tables({"verdicts": pd.concat(judged, ignore_index=True)}, folder / "tables")
        page = build_index("Claims and verdicts", listed, next(iter(tables.values())).study["version"])
        return write_whole(folder / "index.html", page.encode())


def write_report(tables: Tables, folder: Path, *, figures: bool = False) -> Path:
    """Write ``index.html`` and ``tables/`` (and ``figures/``) into a folder; return the page's path.

    ``tables/results`` is the result table, one row per run; ``measures`` and ``history`` are long; ``verdicts``,
    ``tracks``, ``landscapes``, ``surfaces``, ``audits`` and ``histograms`` are there where the study asks for them.
    The same store gives the same bytes. Raises `StoreError` where the folder cannot be written.
    """
    from sharpscope.report import build_page, save_figures, save_tables
    from sharpscope.serialization import write_whole

    study = tables.study
    info: dict[str, Any] = study["measure_info"]
    parts = (tables.runs, tables.measures, tables.history, study["axes"])
    verdicts, figures_wanted = tables.verdicts, paper_figures(tables)
    page = build_page(
        title_of(tables),
        study["description"].strip(),
        *parts,
        metadata={
            "study": study["source"],
            "command": command_of(study),
            "version": study["version"],
            **({"citation": study["citation"]} if study["citation"] else {}),
            **({"scale": study["scale"]} if study["scale"] != "own" else {}),
            "measured on": _objective(study["objective"]),
            **tables.environment,
        },
        measure_info=info,
        notes=tables.notes,
        here=study["note"].strip(),
        precondition=tables.precondition,
        verdicts=verdicts,
        figures=figures_wanted,
        configs=tables.configs,
    )
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_tables(_export(tables, verdicts), folder / "tables")
        if figures:
            save_figures(*parts, folder / "figures", measure_info=info, figures=figures_wanted)
        return write_whole(folder / "index.html", page.encode())


def write_tables(tables: Mapping[str, Tables], folder: Path, form: str) -> list[Path]:
    """Write the tables of every study of a store as files of one format; return their paths.

    One study's are put into the folder itself, those of several into a folder each. Raises `InputError` for an
    unknown format, `StoreError` where the folder cannot be written.
    """
    from sharpscope.report import save_tables

    files = []
    with _writable(folder):
        for name, one in tables.items():
            place = folder if len(tables) == 1 else folder / name
            files += save_tables(_export(one, one.verdicts), place, (form,))
    return files


def paper_figures(tables: Tables) -> list[PaperFigure]:
    """Return every figure of a study, in the file's order."""
    settings = (*_SETTINGS, *tables.study["axes"])
    return [_figure(declared, tables, settings) for declared in tables.study["figures"]]


def _figure(declared: Record, tables: Tables, settings: tuple[str, ...]) -> PaperFigure:
    from sharpscope.report import PaperFigure

    y = declared["y"]
    return PaperFigure(
        **{**declared, "y": (y,) if isinstance(y, str) else tuple(y)},
        rows=_rows(declared["table"], tables),
        settings=settings,
    )


def _rows(table: str, tables: Tables) -> pd.DataFrame:
    """Return the rows of a table with their runs' settings beside them."""
    from sharpscope.analysis.claims import Evidence

    results = tables.results()
    if table == "landscapes":
        return tables.views["landscapes"]
    if table in ("surfaces", "histograms"):
        view = tables.views[table]
        beside = ["run_id", *(name for name in results.columns if name not in view.columns)]
        return view.merge(results[beside], on="run_id", how="inner") if len(view) else view
    return Evidence(results, tables.history, tracks=tables.tracks).table(table)  # type: ignore[arg-type]


def title_of(tables: Tables) -> str:
    """Return a study's title, or its name."""
    return str(tables.study["title"] or tables.study["name"])


def _export(tables: Tables, verdicts: list[Verdict]) -> dict[str, Any]:
    from sharpscope.analysis.claims.verdict import verdicts_table

    export = {"results": tables.results(), "measures": tables.measures, "history": tables.history}
    if verdicts:
        export["verdicts"] = verdicts_table(verdicts, parts=True)
    return export | {n: t for n, t in {"tracks": tables.tracks, **tables.views}.items() if not t.empty}


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into a `StoreError` of one sentence."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the report folder {folder} must be writable, and it is not ({error.strerror}); pass another --output"
        ) from error


def _objective(objective: dict[str, Any]) -> str:
    count = f"{objective['samples']} seeded samples" if objective["samples"] else "all samples"
    return f"the loss over {count} of the {objective['part']} part, in {objective['mode']} mode"
