"""Put the studies of stores under docs/results, and write every page there is anew.

    python docs/results/land.py STORE [STORE ...]     add or replace the experiments that the stores hold
    python docs/results/land.py                       only write the pages anew from what is here

Each experiment gets a folder ``PAPER/EXPERIMENT-SCALE`` with ``results.csv`` (a row per run), ``verdicts.csv``, the
figures in the paper's axes as SVG, and ``experiment.json``, which holds what its page says. All pages are made of
these files and of the texts in ``preface.md`` and ``papers.toml``, so that no page can contradict another: the page
of every experiment, one for each paper, the table of all claims, and ``rejudged.md``. In the two texts
``{kaur2022/K2}`` stands for the verdict on a claim, ``{kaur2022/fig12/K13}`` where several experiments have one of
that name. ``{kaur2022/K2 = supported}`` refuses to write the page once the verdict is another, and
``{figure kaur2022/fig1/fig1-lambda-max}`` links to a drawing. Where a claim was judged at several scales, the pages
on papers and the table show the largest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pages import HERE, every_experiment, overview, paper_page, rejudged_page
from pool import write_pool

from sharpscope.analysis.claims.verdict import Verdict, verdicts_table
from sharpscope.report.chart import RunColumns
from sharpscope.report.export import csv_text
from sharpscope.report.figures import draw
from sharpscope.report.findings import verdict_rows
from sharpscope.report.paper_figures import draw_figures
from sharpscope.studies import collect_all
from sharpscope.studies.results.records import Record, command_of
from sharpscope.studies.results.reporting import paper_figures
from sharpscope.studies.results.tables import Tables
from sharpscope.sweep import Store


def land(tables: Tables) -> None:
    """Write the folder of one experiment from its store."""
    record = tables.study
    paper, _, experiment = record["key"].partition("/")
    folder = HERE / paper / f"{experiment or 'pool'}-{record['scale']}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    figures = []
    for figure in draw_figures(paper_figures(tables)):
        charts = []
        for chart in figure.charts:
            name = f"{chart.id.removeprefix('figure-')}.svg"
            (folder / name).write_bytes(draw(chart, RunColumns({}, {}), "svg"))
            charts.append({"file": name, "description": chart.description})
        figures.append(
            {"id": figure.id, "title": figure.title, "missing": figure.missing or "", "charts": charts}
        )
    write_tables(folder, tables.results(), tables.verdicts)
    write_experiment(
        folder,
        record,
        tables.verdicts,
        notes=tables.notes,
        precondition=tables.precondition,
        figures=figures,
        core_seconds=tables.core_seconds,
    )


def write_tables(folder: Path, results: pd.DataFrame, verdicts: Sequence[Verdict]) -> None:
    """Write ``results.csv`` and ``verdicts.csv``."""
    (folder / "results.csv").write_text(csv_text(_digits(results)), encoding="utf-8")
    (folder / "verdicts.csv").write_text(csv_text(_digits(verdicts_table(verdicts))), encoding="utf-8")


def write_experiment(
    folder: Path,
    record: Record,
    verdicts: Sequence[Verdict],
    *,
    notes: Sequence[str],
    precondition: str,
    figures: Sequence[dict[str, Any]],
    core_seconds: float | None,
) -> None:
    """Write ``experiment.json``: all that the experiment's page says but for what is in the tables."""
    planned = (record.get("looks") or {"planned": []})["planned"]
    sequence = f" --until decided --looks {','.join(map(str, planned))}" if len(planned) > 1 else ""
    kept = ("key", "scale", "title", "description", "note", "requires", "claims", "looks", "version")
    content = {name: record.get(name) for name in kept} | {
        "command": command_of(record) + sequence,
        "notes": list(notes),
        "precondition": precondition,
        "core_seconds": None if core_seconds is None else round(core_seconds),
        "figures": list(figures),
        "verdicts": verdict_rows(verdicts),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / "experiment.json").write_text(text + "\n", encoding="utf-8")


def _digits(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with floats to eight digits, which is what a reader's own machine will agree in."""
    return table.apply(lambda c: c.map(lambda v: float(f"{v:.8g}")) if c.dtype == "float64" else c)


def pages() -> dict[Path, str]:
    """Return every page by its path, made of what is here."""
    landed = every_experiment()
    texts = tomllib.loads((HERE / "papers.toml").read_text(encoding="utf-8"))
    found = {one.folder / "README.md": one.page() for one in landed}
    for paper in dict.fromkeys(one.paper for one in landed):
        found[HERE / paper / "README.md"] = paper_page(paper, landed, texts.get(paper, {}))
    found[HERE / "README.md"] = overview(landed, (HERE / "preface.md").read_text(encoding="utf-8"), texts)
    if (HERE / "rejudged.csv").exists():
        found[HERE / "rejudged.md"] = rejudged_page(landed)
    return found


def main() -> None:
    """Land the stores that were named, then write every page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", nargs="*", type=Path, metavar="STORE")
    stores = parser.parse_args().stores
    for given in stores:
        if not given.is_dir():
            parser.error(
                f"a store must be an existing folder, received {given}; name one that a run has made"
            )
    for given in stores:
        for tables in collect_all(Store(given)).values():
            done, planned = len(tables.runs), len(tables.study["runs"])
            if done == planned:
                land(tables)
            else:
                key = f"{tables.study['key']} ({tables.study['scale']})"
                print(f"{key} is left out: {done} of {planned} runs are done", file=sys.stderr)
    for one in every_experiment():
        if one.paper == "adjudication":
            write_pool(one.folder, one.runs, one.said)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
