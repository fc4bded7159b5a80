"""Read the tables of views from a store: landscapes, surfaces, audits, histograms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sharpscope.studies.results.reading import read_json, read_parquet
from sharpscope.studies.results.records import Record
from sharpscope.sweep import Store

if TYPE_CHECKING:
    import pandas as pd

_OF_A_LINE = (
    *("distance", "width_a", "width_b", "complete_a", "complete_b"),
    *("low_a", "high_a", "low_b", "high_b"),
)
_NAMES = {"landscapes": "pair", "surfaces": "surface", "audits": "audit", "histograms": "histogram"}


def read_views(store: Store, study: Record, runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return a table for each kind of view, an empty one where the study asks for none or none is done.

    A row of ``landscapes`` names its ``pair``, ``run_a``, ``run_b``, their common ``seed``, and the settings of both
    as ``<column>_a`` and ``<column>_b`` where they differ; widths are in units of the parameters.
    """
    import pandas as pd

    rows: dict[str, Any] = {row["run_id"]: row for row in runs.to_dict("records")}
    parts: dict[str, list[pd.DataFrame]] = {kind: [] for kind in _NAMES}
    paths = store.paths() if study["views"] else {}
    for planned in study["views"]:
        if planned["id"] not in paths:
            continue
        folder = paths[planned["id"]]
        table, summary = read_parquet(folder / "table.parquet"), read_json(folder / "summary.json")
        if table.empty:
            continue
        kind = planned["kind"]
        first: dict[str, Any] = {_NAMES[kind]: planned["name"]}
        keep: tuple[str, ...] = ()
        if kind == "landscapes":
            first["pair"] = f"{planned['name']} {planned['runs'][0][:6]}–{planned['runs'][1][:6]}"
            first |= {"landscape": planned["name"], **_ends(planned["runs"], rows, study["axes"])}
            keep = _OF_A_LINE
        else:
            first["run_id"] = planned["runs"][0]
            keep = ("parameter",) if kind == "histograms" else ()
        constant = {**first, **{key: summary[key] for key in keep}}
        parts[kind].append(pd.DataFrame({k: [v] * len(table) for k, v in constant.items()}).join(table))
    return {kind: pd.concat(p, ignore_index=True) if p else pd.DataFrame() for kind, p in parts.items()}


def _ends(ids: list[str], rows: Mapping[str, Mapping[str, Any]], axes: list[str]) -> dict[str, Any]:
    """Return the two runs of a line, what they have in common of what varies, and what tells them apart."""
    found: dict[str, Any] = {"run_a": ids[0], "run_b": ids[1]}
    a, b = (rows.get(run, {}) for run in ids)
    for column in ("seed", *axes):
        if a.get(column) == b.get(column):
            found[column] = a.get(column)
        else:
            found |= {f"{column}_a": a.get(column), f"{column}_b": b.get(column)}
    return found
