"""What a store keeps of the studies that were run into it: one record for each key and scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.sweep import Store

Record = dict[str, Any]

_LATER = {"scale": "own", "paper": "", "citation": "", "note": "", "tasks": {}}
_LATER_LISTS = ("tracks", "views", "figures", "claims")
"""Keys that records made before they existed lack."""


def keep_records(store: Store, records: Iterable[Record]) -> None:
    """Write records into a store beside those it has; one of the same key and scale is replaced."""
    new = {_place(record): record for record in records}

    def beside(content: Record | None) -> Record:
        listed = list(({_place(record): record for record in _records_in(content)} | new).values())
        return listed[0] if len(listed) == 1 else {"studies": listed}

    store.change_study(beside)


def read_records(store: Store) -> list[Record]:
    """Return the records of a store, in the order in which they came; raise `StoreError` where it holds none."""
    found = _records_in(store.read_study())
    if not found:
        raise StoreError(f"the store {store.root} holds no study yet; run one into it with 'sharpscope run'")
    return found


def folder_of(record: Record) -> str:
    """Return a name for a folder of a record's own: its key and scale."""
    name = str(record["key"]).replace("/", "-")
    return name if record["scale"] == "own" else f"{name}-{record['scale']}"


def command_of(record: Record) -> str:
    """Return the command that runs a record's study."""
    experiment = record["key"].partition("/")[2]
    target = f"{record['origin']}/{experiment}" if experiment else record["origin"]
    return f"sharpscope run {target}" + ("" if record["scale"] == "own" else f" --scale {record['scale']}")


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


def _records_in(content: Record | None) -> list[Record]:
    if content is None:
        return []
    listed: list[Record] = content.get("studies", [content])
    return [{"key": r.get("name", ""), **_LATER, **{k: [] for k in _LATER_LISTS}, **r} for r in listed]


def _place(record: Record) -> tuple[str, str]:
    return record["key"], record["scale"]
