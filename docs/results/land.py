"""Put the studies of a store under docs/results, and write the table of all claims anew.

    python docs/results/land.py STORE [STORE ...]     add or replace the experiments that the stores hold
    python docs/results/land.py                       only write README.md anew from what is here

Each experiment gets a folder ``PAPER/EXPERIMENT-SCALE`` with ``results.csv`` (a row per run), ``verdicts.csv``, the
figures in the paper's axes as SVG, and ``README.md`` with the command, the figures and every claim. Where a claim was
judged at several scales, the table of all claims shows the largest.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from sharpscope.analysis.claims import Evidence, assess, read_claims
from sharpscope.analysis.claims.verdict import Effect, Word, verdicts_table
from sharpscope.analysis.league import league
from sharpscope.report.chart import RunColumns
from sharpscope.report.export import csv_text
from sharpscope.report.figures import draw
from sharpscope.report.findings import verdict_rows
from sharpscope.report.numbers import number
from sharpscope.report.paper_figures import draw_figures
from sharpscope.studies import collect_all, load_studies
from sharpscope.studies.results.records import command_of
from sharpscope.studies.results.reporting import paper_figures
from sharpscope.studies.results.tables import Tables
from sharpscope.sweep import Store

HERE = Path(__file__).parent
PAPERS = ("patriarca2024", "jastrzebski2018", "kaur2022", "hammoud2023", "coldenhoff2022", "adjudication")
SCALES = ("paper", "laptop", "smoke")


def land(tables: Tables) -> None:
    """Write the folder of one experiment."""
    record = tables.study
    paper, _, experiment = record["key"].partition("/")
    folder = HERE / paper / f"{experiment or 'pool'}-{record['scale']}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "results.csv").write_text(csv_text(_digits(tables.results())), encoding="utf-8")
    verdicts = tables.verdicts
    (folder / "verdicts.csv").write_text(csv_text(_digits(verdicts_table(verdicts))), encoding="utf-8")
    lines = [f"# {record['key']}: {record['title']}", ""]
    lines += [one + "\n" for one in (record["description"].strip(), record["note"].strip()) if one]
    lines += [f"- {note}" for note in tables.notes] + [f"- {_done(tables)}", ""]
    lines += ["```console", f"$ {command_of(record)} --store STORE", "$ sharpscope report STORE", "```", ""]
    for figure in draw_figures(paper_figures(tables)):
        lines += [f"## {figure.id}{f': {figure.title}' if figure.title else ''}", ""]
        lines += [f"Not drawn: {figure.missing}.", ""] if figure.missing else []
        for chart in figure.charts:
            name = f"{chart.id.removeprefix('figure-')}.svg"
            (folder / name).write_bytes(draw(chart, RunColumns({}, {}), "svg"))
            lines += [f"![{chart.description}]({name})", ""]
    lines += ["## Claims", ""]
    for row in verdict_rows(verdicts):
        lines += [f"**{row['id']}: {row['verdict']}.** {row['statement']}", ""]
        lines += [f"- Measured: {row['effect']}. {row['reason']}" if row["effect"] else f"- {row['reason']}"]
        lines += [f"- Training loss: {row['control']}"] if row["control"] else []
        lines += [f"- Confound: {line}" for line in row["confounds"]]  # type: ignore[attr-defined]
        lines += [f"- What would change it: {row['would_change']}"] if row["would_change"] else []
        lines += [""]
    if paper == "adjudication":
        (folder / "batch.md").write_text(does_a_larger_batch_flatten(tables), encoding="utf-8")
        lines += [
            "[Does a larger batch flatten? By every measure, with and without the control](batch.md)",
            "",
        ]
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def does_a_larger_batch_flatten(tables: Tables) -> str:
    """Return the page that asks it of every measure on the same models, with training loss held fixed and not.

    By every measure the trend over batch size is judged like any claim: within each optimizer and rate.
    """
    evidence = Evidence(tables.results())
    measures = list(dict.fromkeys(tables.measures["measure"]))
    lines = [
        "# Does a larger batch flatten?",
        "",
        f"The same models, every measure ({tables.study['key']}, scale {tables.study['scale']}).",
        "",
        tables.study["note"].strip(),
        "",
        "τ_b of the measure on the batch size, among runs of one optimizer and one learning rate: below 0 the larger",
        "batch ends flatter, above 0 sharper. Intervals: 95 %, honest for the number of seeds. The last column holds",
        f"the training loss fixed. {_where_runs_stopped(tables)}",
        "",
    ]
    for title, where in (("SGD", {"optimizer": "sgd"}), ("Every optimizer", {})):
        lines += [
            f"## {title}",
            "",
            "| measure | τ_b on batch size | a larger batch | given training loss |",
            "|---|---|---|---|",
        ]
        for measure in measures:
            claim = {
                "id": measure,
                "statement": "A larger batch flattens.",
                "kind": "trend",
                "x": "batch_size",
                "y": measure,
                "direction": "falling",
                "within": ["optimizer", "lr"],
                "where": where,
            }
            (verdict,) = assess(read_claims([claim]), evidence, tables.study["scale"])
            way = {"supported": "**flattens**", "contradicted": "**sharpens**"}.get(
                verdict.verdict, verdict.verdict
            )
            partial = "" if verdict.control is None else verdict.control.note
            if verdict.control is not None and verdict.control.partial is not None:
                partial = _interval(verdict.control.partial)
            effect = "" if verdict.effect is None else _interval(verdict.effect)
            lines.append(f"| {measure} | {effect} | {way} | {partial} |")
        lines.append("")
    axes = [axis for axis in ("optimizer", "lr", "batch_size") if tables.runs[axis].nunique() > 1]
    table = league(tables.results(), measures, axes)
    lines += ["## Which measure predicts the generalisation gap?", ""]
    lines += [
        "| rank | measure | τ_b | granulated τ | partial τ given training loss |",
        "|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        cells = [_cell(row, name) for name in ("tau", "granulated", "partial_tau")]
        lines.append(
            f"| {row['rank']} [{row['rank_low']}, {row['rank_high']}] | {row['measure']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _where_runs_stopped(tables: Tables) -> str:
    """Say how far the control by a common training loss reaches: which runs met it, and where the others ended."""
    runs = tables.runs
    short = runs.loc[runs["stop_reason"] != "train_loss", "train_loss"]
    line = (
        f"{len(runs) - len(short)} of {len(runs)} runs stopped as soon as an epoch ended below the same loss"
    )
    if short.empty:
        return f"{line}, so what can still vary is how far below."
    return f"{line}; the others ended above it, at {_range(short)}."


def _cell(row: dict[Any, Any], name: str) -> str:
    return _interval(Effect(name, row[name], row[f"{name}_low"], row[f"{name}_high"]))


def _interval(effect: Effect) -> str:
    ends = f" [{number(effect.low, 2)}, {number(effect.high, 2)}]" if math.isfinite(effect.low) else ""
    return f"{number(effect.value, 2)}{ends}" if math.isfinite(effect.value) else "–"


def _done(tables: Tables) -> str:
    planned, done = len(tables.study["runs"]), len(tables.runs)
    lost = int((tables.runs["status"] == "diverged").sum()) if done else 0
    ends = "" if not done else f"; training losses {_range(tables.runs['train_loss'])}"
    return f"{done} of {planned} runs done, {lost} of them diverged{ends}"


def _range(values: pd.Series[float]) -> str:
    return f"{number(float(values.min()))} to {number(float(values.max()))}"


def _digits(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with floats to eight digits, which is what a reader's own machine will agree in."""
    return table.apply(lambda c: c.map(lambda v: float(f"{v:.8g}")) if c.dtype == "float64" else c)


def overview() -> str:
    """Return the page of all claims from the folders that are here."""
    sections: list[str] = []
    tally = pd.DataFrame(0, index=[*PAPERS, "all"], columns=[*get_args(Word), "not run"])
    for paper in PAPERS:
        sections += [
            f"## {paper}",
            "",
            "| claim | paper's statement | our effect, 95 % interval | verdict | scale | figures |",
        ]
        sections += ["|---|---|---|---|---|---|"]
        for study in load_studies(paper, "paper"):
            scale, rows, folder = _best(paper, study.key.partition("/")[2] or "pool")
            for claim in study.config.claims:
                row = rows.get(str(claim["id"]), {})
                tally.loc[[paper, "all"], str(row.get("verdict", "not run"))] += 1
                sections.append(_row(claim, scale, row, folder))
        sections += ["", *_every_page(paper), ""]
        if paper == "adjudication" and folder is not None:
            page = f"{paper}/{folder.name}/batch.md"
            sections += [f"[Does a larger batch flatten? By every measure, scale {scale}]({page})", ""]
    tally = tally.loc[:, tally.loc["all"] > 0]
    lines = [(HERE / "preface.md").read_text(encoding="utf-8").rstrip(), ""]
    lines += [f"| | {' | '.join(tally.columns)} |", "|---" * (len(tally.columns) + 1) + "|"]
    lines += [f"| {paper} | {' | '.join(map(str, counts))} |" for paper, counts in tally.T.items()]
    return "\n".join([*lines, "", *sections]).rstrip() + "\n"


def _every_page(paper: str) -> list[str]:
    """Return a line with a link to the page of every experiment at every scale."""
    links = []
    for page in sorted((HERE / paper).rglob("*.md")):
        name = "overview" if page.parent.name == paper else page.parent.name
        name += "" if page.stem == "README" else f": {page.stem}"
        links.append(f"[{name}]({page.relative_to(HERE)})")
    return [f"Every page: {', '.join(links)}."] if links else []


def _best(paper: str, experiment: str) -> tuple[str, dict[str, dict[str, object]], Path | None]:
    for scale in SCALES:
        folder = HERE / paper / f"{experiment}-{scale}"
        if (folder / "verdicts.csv").exists():
            table = pd.read_csv(folder / "verdicts.csv", keep_default_na=False, na_values=[""])
            rows = {str(row["id"]): {str(k): v for k, v in row.items()} for row in table.to_dict("records")}
            return scale, rows, folder
    return "", {}, None


def _row(claim: dict[str, object], scale: str, row: dict[str, object], folder: Path | None) -> str:
    statement = str(claim["statement"]).replace("|", "\\|")
    if not row or folder is None:
        return f"| {claim['id']} | {statement} | | not run | | |"
    effect = ""
    if not pd.isna(row["value"]):
        effect = f"{row['effect']} {number(row['value'])}"
        if not pd.isna(row["low"]):
            effect += f" [{number(row['low'])}, {number(row['high'])}]"
    link = f"[{folder.name}]({folder.parent.name}/{folder.name}/README.md)"
    effect = re.sub(r"\|", r"\\|", effect)
    return f"| {claim['id']} | {statement} | {effect} | {row['verdict']} | {scale} | {link} |"


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("stores", nargs="*", type=Path, metavar="STORE")
    stores = arguments.parse_args().stores
    for given in stores:
        if not given.is_dir():
            arguments.error(
                f"a store must be an existing folder, received {given}; name one that a run has made"
            )
    for given in stores:
        for one in collect_all(Store(given)).values():
            if len(one.runs) == len(one.study["runs"]):
                land(one)
            else:
                print(f"{one.study['key']} is left out: {_done(one)}", file=sys.stderr)
    (HERE / "README.md").write_text(overview(), encoding="utf-8")
