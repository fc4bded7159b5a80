"""What the studies of a store ask for: which results, and from which others they are made."""

from __future__ import annotations

from collections.abc import Iterable

from sharpscope.studies.results.records import Record


def results_by_name(records: list[Record]) -> dict[str, list[str]]:
    """Return the ids of the results that studies ask for: of the runs, and of each measure, track and view."""
    planned: dict[str, list[str]] = {}
    for study in records:
        before = f"{study['key']} " if len(records) > 1 else ""
        planned[f"{before}runs"] = [r["id"] for r in study["runs"]]
        for measure in study["measures"]:
            planned.setdefault(before + measure["label"], []).append(measure["id"])
        for track in study["tracks"]:
            planned.setdefault(f"{before}{track['label']} over training", []).append(track["id"])
        for view in study["views"]:
            planned.setdefault(f"{before}{view['name']}", []).append(view["id"])
    return planned


def needs_by_result(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Return, for every measure and view that studies ask for, the ids of the runs it is made from."""
    needs: dict[str, tuple[str, ...]] = {}
    for study in records:
        needs |= {measure["id"]: (measure["run"],) for measure in study["measures"]}
        needs |= {view["id"]: tuple(view["runs"]) for view in study["views"]}
    return needs
