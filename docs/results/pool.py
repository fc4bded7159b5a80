"""The pages on a pool of models: does a larger batch flatten, and what predicts each outcome, by every measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sharpscope.analysis.claims import Evidence, assess, read_claims
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.league import league
from sharpscope.report.chart import Chart, RunColumns
from sharpscope.report.figures import draw
from sharpscope.report.numbers import listed, number

TARGETS = {
    "gap": "The generalisation gap",
    "rounding_rise": "What rounding the weights to 4 bits costs",
    "fine_tuning_rise": "What fine-tuning on other data costs",
}
"""The outcomes that a measure may foretell, with the headings of their leagues."""

CONTROLS = ("weight_norm", "path_norm", "margin")
"""What is no sharpness and may explain a correlation."""

PARTIAL = ("partial_tau", "partial_tau_low", "partial_tau_high", *(f"given_{name}" for name in CONTROLS))
SIGNS = ("sign_error", "worst_sign_error", "information")

WAYS = {"supported": "**flattens**", "contradicted": "**sharpens**", "negligible": "changes it too little"}


def does_a_larger_batch_flatten(results: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """Return the page that asks it of every measure on the same models, with training loss held fixed and not.

    By every measure the trend over batch size is judged like any claim: within each optimizer and rate.
    """
    evidence = Evidence(results)
    measures = _measures(results)
    lines = [
        "# Does a larger batch flatten?",
        "",
        f"The same models, every measure ({record['key']}, scale {record['scale']}).",
        "",
        record["note"].strip(),
        "",
        "The ratio of the measure from the smallest to the largest batch, among runs of one seed, optimizer and",
        "learning rate: below 1 the larger batch ends flatter, above 1 sharper. Intervals: 95 %, honest for the",
        "number of seeds.",
        f"The last column is a rank correlation with the training loss held fixed. {_where_runs_stopped(results)}",
        "",
    ]
    sections = (("SGD", {"optimizer": "sgd"}), ("Every optimizer", {}))
    for title, where in sections if (results["optimizer"] == "sgd").any() else sections[1:]:
        lines += [
            f"## {title}",
            "",
            "| measure | ratio over the batch sizes | a larger batch | rank correlation given training loss |",
            "|---|---|---|---|",
        ]
        for measure in measures:
            claim = {
                "id": measure,
                "statement": "A larger batch flattens.",
                "kind": "trend",
                "matters": 0.1,
                "x": "batch_size",
                "y": measure,
                "direction": "falling",
                "within": ["optimizer", "lr"],
                "where": where,
            }
            (verdict,) = assess(
                read_claims([claim]), evidence, record["scale"], requires=record["requires"] or None
            )
            partial = "" if verdict.control is None else verdict.control.note
            if verdict.control is not None and verdict.control.partial is not None:
                partial = _interval(verdict.control.partial)
            effect = "" if verdict.effect is None else _interval(verdict.effect)
            way = WAYS.get(verdict.verdict, verdict.verdict)
            lines.append(f"| {measure} | {effect} | {way} | {partial} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def write_pool(folder: Path, results: pd.DataFrame, record: Mapping[str, Any]) -> None:
    """Write what a pool of runs has beside its own page: ``league.md``, its table and pictures, and ``batch.md``.

    The last only where most rates were run at several batch sizes, which drawn settings are not.
    """
    if results.groupby(["optimizer", "lr"])["batch_size"].nunique().median() > 1:
        (folder / "batch.md").write_text(does_a_larger_batch_flatten(results, record), encoding="utf-8")
    tables = leagues(results)
    for target, table in tables.items():
        (folder / f"league-{target}.svg").write_bytes(
            draw(_intervals(target, table), RunColumns({}, {}), "svg")
        )
    (folder / "league.md").write_text(league_page(tables, results, record), encoding="utf-8")
    kept = [
        "target",
        "rank",
        "measure",
        *(f"tau{end}" for end in ("", "_low", "_high")),
        *PARTIAL,
        *SIGNS,
        "n",
    ]
    whole = pd.concat([table.assign(target=target) for target, table in tables.items()])
    whole.reindex(columns=kept).to_csv(folder / "league.csv", index=False, float_format="%.4g")


def leagues(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return for each outcome the league of all measures, with partial coefficients given each control.

    How a run was optimised, but for its rate and batch, is one setting here: SAM has a radius that others lack, and
    both would else change at once.
    """
    options = [name for name in ("rho", "weight_decay", "base") if name in results]
    method = [" ".join(map(str, row)) for row in results[["optimizer", *options]].itertuples(index=False)]
    runs = results.assign(method=method)
    axes = [axis for axis in ("method", "lr", "batch_size") if runs[axis].nunique() > 1]
    targets = [target for target in TARGETS if target in results]
    measures = [name for name in _measures(results) if name not in TARGETS]
    found = {}
    for target in targets:
        table = league(runs, measures, axes, target)
        for control in (name for name in CONTROLS if name in measures):
            others = [name for name in measures if name != control]
            given = league(runs, others, axes, target, given=control, resamples=10).set_index("measure")
            table[f"given_{control}"] = table["measure"].map(given["partial_tau"])
        found[target] = table
    return found


def league_page(tables: Mapping[str, pd.DataFrame], results: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """Return the page that ranks the measures as predictors of each outcome."""
    clusters = results["configuration"].nunique()
    lines = [
        "# Which measure predicts what?",
        "",
        f"{len(results)} runs in {clusters} settings ({record['key']}, scale {record['scale']}).",
        "",
        record["note"].strip(),
        "",
        _where_runs_stopped(results),
        "",
        "First comes the measure whose τ_b stays furthest from zero with certainty. Intervals: 95 %, over settings,",
        "not over runs. |τ| ≥: the nearer end of that interval, 0 where it holds 0. Sign error: of changes of one",
        "setting, the share in which measure and outcome move apart, on average and in the worst environment.",
        "Information: what the measure says of the outcome beyond any two settings, as a share. Partial τ: with the",
        "column's control held fixed. With so many measures a few intervals in a hundred miss zero by chance alone.",
        "",
    ]
    for target, table in tables.items():
        lines += [
            f"## {TARGETS[target]}",
            "",
            f"![τ_b of every measure with {target}](league-{target}.svg)",
            "",
        ]
        lines += [_in_words(target, table), ""]
        controls = [name for name in table.columns if name.startswith("given_")]
        heads = ["rank", "measure", "τ_b", "|τ| ≥", "granulated τ", "sign error (worst)", "information"]
        heads += ["partial τ given train_loss", *(f"given {c.removeprefix('given_')}" for c in controls)]
        lines += [
            f"| {' | '.join(h.replace('|', chr(92) + '|') for h in heads)} |",
            "|---" * len(heads) + "|",
        ]
        for row in table.to_dict("records"):
            cells = [str(row["rank"]), row["measure"], _cell(row, "tau"), number(_sure(row), 2)]
            cells += [_cell(row, "granulated"), _sign(row), _number(row["information"])]
            cells += [_cell(row, "partial_tau"), *(_number(row[c]) for c in controls)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def transfer(pools: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the table of τ_b with the generalisation gap by pool, in Markdown, from their ``league.csv``."""
    by_pool = {name: table[table["target"] == "gap"].set_index("measure") for name, table in pools.items()}
    names = dict.fromkeys(name for table in by_pool.values() for name in table.index)
    common = [name for name in names if sum(name in table.index for table in by_pool.values()) > 1]

    def way(name: str, table: pd.DataFrame) -> int:
        if name not in table.index:
            return 0
        return int(table.loc[name, "tau_low"] > 0) - int(table.loc[name, "tau_high"] < 0)

    def said(name: str) -> str:
        ways = [way(name, table) for table in by_pool.values() if name in table.index]
        if min(ways) < 0 < max(ways):
            return "**changes sign**"
        return "same sign, sure in each" if abs(sum(ways)) == len(ways) else "not sure in each"

    order = {"same sign, sure in each": 0, "**changes sign**": 1, "not sure in each": 2}
    lines = ["## What transfers between the pools", ""]
    lines += [
        "τ_b of each measure with the generalisation gap, 95 % over settings, on each pool of models.",
        "",
    ]
    lines += [f"| measure | {' | '.join(by_pool)} | over pools |", "|---" * (len(by_pool) + 2) + "|"]
    for name in sorted(common, key=lambda n: (order[said(n)], n)):
        cells = [
            _cell(dict(table.loc[name]), "tau") if name in table.index else "–" for table in by_pool.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {said(name)} |")
    return lines


def _measures(results: pd.DataFrame) -> list[str]:
    columns = list(results.columns)
    return [name for name in columns[columns.index("gap") + 1 :] if not name.endswith("_stderr")]


def _in_words(target: str, table: pd.DataFrame) -> str:
    """Say which measures surely go with the outcome, and which against it."""
    ways = {"rises": table["tau_low"] > 0, "falls": table["tau_high"] < 0}
    parts = [
        f"{way} with {listed(list(table.loc[chosen, 'measure']))}"
        for way, chosen in ways.items()
        if chosen.any()
    ]
    if not parts:
        return f"Of no measure is the sign of τ_b sure ({len(table)} measures)."
    rest = int((~(ways["rises"] | ways["falls"])).sum())
    return f"Surely {target} {'; it '.join(parts)}. Not sure: {rest} of {len(table)}."


def _intervals(target: str, table: pd.DataFrame) -> Chart:
    """Return the picture of τ_b with its interval by measure, the best predictor on top."""
    drawn = table[table["tau"].notna()]
    heads = {"measure": "measure", "tau": "τ_b", "low": "lower end", "high": "upper end"}
    room = 7 * max(
        map(len, drawn["measure"]), default=0
    )  # the reader's font may be wider than the one drawn with
    y = {"field": "measure", "type": "nominal", "sort": None, "title": None, "axis": {"minExtent": room}}
    scale = {"domain": [-1, 1]}
    rule = {"mark": "rule", "encoding": {"y": y, "x": {"field": "low", "type": "quantitative", "scale": scale,
            "title": "τ_b"}, "x2": {"field": "high"}}}  # fmt: skip
    point = {"mark": {"type": "point", "filled": True}, "encoding": {"y": y, "x": {"field": "tau",
             "type": "quantitative", "scale": scale}}}  # fmt: skip
    return Chart(
        id=f"league-{target}",
        title=f"Kendall's τ_b with {TARGETS[target].lower()}",
        lines=("with its 95 % interval over settings",),
        spec={"layer": [rule, point]},
        data={
            "measure": list(drawn["measure"]),
            "tau": [float(v) for v in drawn["tau"]],
            "low": [float(v) for v in drawn["tau_low"]],
            "high": [float(v) for v in drawn["tau_high"]],
        },
        headings=heads,
        description=f"τ_b of every measure with {target}, 95 % intervals.",
        height=14 * len(drawn),
    )


def _sure(row: Mapping[Any, Any]) -> float:
    ends = max(row["tau_low"], -row["tau_high"])
    return max(float(ends), 0.0) if math.isfinite(ends) else 0.0


def _sign(row: Mapping[Any, Any]) -> str:
    return f"{_number(row['sign_error'])} ({_number(row['worst_sign_error'])})"


def _number(value: float) -> str:
    return number(float(value), 2) if math.isfinite(value) else "–"


def _where_runs_stopped(runs: pd.DataFrame) -> str:
    """Say how far the control by a common training loss reaches: which runs met it, and where the others ended."""
    short = runs.loc[runs["stop_reason"] != "train_loss", "train_loss"]
    line = (
        f"{len(runs) - len(short)} of {len(runs)} runs stopped as soon as an epoch ended below the same loss"
    )
    if short.empty:
        return f"{line}, so what can still vary is how far below."
    low, high = number(float(short.min())), number(float(short.max()))
    return f"{line}; the others ended above it, at {low} to {high}."


def _cell(row: dict[Any, Any], name: str) -> str:
    return _interval(Effect(name, row[name], row[f"{name}_low"], row[f"{name}_high"]))


def _interval(effect: Effect) -> str:
    ends = f" [{number(effect.low, 2)}, {number(effect.high, 2)}]" if math.isfinite(effect.low) else ""
    return f"{number(effect.value, 2)}{ends}" if math.isfinite(effect.value) else "–"
