"""What a store keeps of the studies that were run into it: one record for each key and scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, PositiveInt, ValidationError

from sharpscope.errors import StoreError
from sharpscope.serialization import StrictConfig
from sharpscope.studies.file.schema import FigureConfig, ObjectiveConfig
from sharpscope.sweep import Store

Record = dict[str, Any]

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]


_FOLDER = "[A-Za-z0-9][A-Za-z0-9._-]*"  # a text that names a folder, and none that is above


class _Result(StrictConfig):
    id: _Id


class _Run(_Result):
    configuration: str
    settings: dict[str, JsonValue]


class _OfRun(_Result):
    run: _Id
    label: str


class _Measure(_OfRun):
    of: str


class _View(_Result):
    kind: Literal["landscapes", "surfaces", "audits", "histograms"]
    name: str
    runs: list[_Id] = Field(min_length=1, max_length=2)


class _Looks(StrictConfig):
    planned: list[PositiveInt] = Field(min_length=1)
    taken: list[PositiveInt]
    open: list[str] = Field(default_factory=list)


class _Record(StrictConfig):
    """What a record must hold for the tables and reports that are made from it alone."""

    name: str = Field(pattern=rf"^{_FOLDER}$", max_length=200)
    key: str = Field(pattern=rf"^{_FOLDER}(/{_FOLDER})*$", max_length=200)
    scale: Literal["own", "smoke", "laptop", "paper"]
    paper: str
    origin: str
    version: str
    title: str
    description: str
    citation: str
    note: str
    source: str
    objective: ObjectiveConfig
    axes: list[str]
    measure_info: dict[str, dict[str, str]]
    runs: list[_Run]
    measures: list[_Measure]
    tracks: list[_OfRun]
    views: list[_View]
    figures: list[FigureConfig]
    claims: list[dict[str, JsonValue]]
    tasks: dict[_Id, _Id]
    requires: dict[str, JsonValue] | None = None
    looks: _Looks | None = None


def keep_records(
    store: Store, records: Iterable[Record], looks: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Write records into a store beside those it has; one of the same key and scale is replaced but for its looks.

    ``looks`` are, by key, what is planned where the record has no looks, or a single one.

    Raises `StoreError` where the one to be replaced came from another file and shares no run with the new one.
    """
    new = {_place(record): record for record in records}

    def beside(content: Record | None) -> Record:
        there = {_place(record): record for record in _records_in(content, store)}
        for place in there.keys() & new.keys():
            _refuse_another_study(there[place], new[place], store)
        for place, record in new.items():
            kept = there.get(place, {}).get("looks")
            wanted = (looks or {}).get(record["key"])
            if wanted is not None and (kept is None or len(kept["planned"]) == 1):
                kept = {"taken": [], **(kept or {}), **wanted}
            if kept is not None:
                new[place] = {**record, "looks": kept}
        listed = list((there | new).values())
        return listed[0] if len(listed) == 1 else {"studies": listed}

    store.change_study(beside)


def change_looks(store: Store, key: str, scale: str, looks: Mapping[str, Any]) -> None:
    """Replace the looks of one record of a store."""

    def changed(content: Record | None) -> Record:
        listed = [
            {**record, "looks": dict(looks)} if _place(record) == (key, scale) else record
            for record in _records_in(content, store)
        ]
        return listed[0] if len(listed) == 1 else {"studies": listed}

    store.change_study(changed)


def _refuse_another_study(old: Record, new: Record, store: Store) -> None:
    runs = {run["id"] for run in old["runs"]}
    files = [str(record["origin"]).rpartition("/")[2] for record in (old, new)]
    if files[0] != files[1] and runs and runs.isdisjoint(run["id"] for run in new["runs"]):
        raise StoreError(
            f"the store {store.root} holds another study of the name {old['key']}, from {old['origin']}, and none of "
            f"its {len(runs)} runs is one of {new['origin']}; pass another --store, or give this study another name"
        )


def read_records(store: Store) -> list[Record]:
    """Return the records of a store, in the order in which they came; raise `StoreError` where it holds none."""
    found = _records_in(store.read_study(), store)
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


def _records_in(content: Record | None, store: Store) -> list[Record]:
    if content is None:
        return []
    listed = content.get("studies", [content]) if isinstance(content, dict) else [content]
    return [_checked(record, store) for record in (listed if isinstance(listed, list) else [listed])]


def _checked(record: object, store: Store) -> Record:
    """Return a record; raise `StoreError` where it is none that a run writes, as in a store of someone else's.

    A name or an id that is refused could lead out of a folder.
    """
    whole: Record = (
        {"tasks": {}, "requires": None, "looks": None, **record} if isinstance(record, dict) else {}
    )
    try:
        _Record.model_validate(whole)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise StoreError(
            f"{store.root / 'study.json'} is damaged at {place or 'its top'}; remove it and run the study again, "
            "which keeps every result"
        ) from error
    return whole


def _place(record: Record) -> tuple[str, str]:
    return record["key"], record["scale"]
