"""From a study file to its plan: the grid expanded, every run and measure checked, every id fixed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sharpscope.data import DataConfig
from sharpscope.errors import InputError
from sharpscope.models import ModelConfig
from sharpscope.serialization import StrictConfig, content_hash, explain
from sharpscope.studies.file.library import Study
from sharpscope.studies.file.source import leading, path_of, quoted_in
from sharpscope.studies.plan import selection
from sharpscope.studies.plan.column_check import IDENTITY, RESERVED, check_columns, check_labels
from sharpscope.studies.plan.plan import Plan, PlannedMeasure, PlannedRun, PlannedTrack
from sharpscope.studies.plan.views import plan_views
from sharpscope.studies.tasks.run_measures import checked, refuse_state
from sharpscope.sweep import block_named, expand
from sharpscope.training import RunConfig
from sharpscope.training.config import OptimizerConfig, StopConfig

COLUMNS = {
    "data.name": "data",
    "model.name": "model",
    "optimizer.name": "optimizer",
    "optimizer.lr": "lr",
    "stop.epochs": "max_epochs",
}
"""Column names of dotted keys whose last part would not say enough."""

_OWN_COLUMN = {"data.name", "model.name", "optimizer.name", "optimizer.lr", *IDENTITY}
"""Dotted keys that have a column in the table of runs, whether or not the grid varies them."""


_REPORT_EVERY = 1000  # runs; about a tenth of a second


def make_plan(study: Study, progress: Callable[[int, int], None] | None = None) -> Plan:
    """Expand and check a study; `progress` is called with the number of runs planned so far and of all.

    Raises `InputError`, naming the study file, line and key, for an invalid run, grid, measure or selection.
    """
    config, source = study.config, study.source
    try:
        blocks = config.blocks()
        settings = expand(_named_tables(config.run), blocks)
    except InputError as error:
        raise source.refusal(
            _grid_place(study, ".".join(map(str, quoted_in(str(error)))), str(error)), f"grid: {error}"
        ) from error
    paths = list(dict.fromkeys(p for b in blocks for p in [*[k for c in b.cases for k in c], *b.axes]))
    names = _columns(paths)
    parts = _Parts(source.folder)
    runs: dict[str, PlannedRun] = {}
    count = len(settings)
    settings.reverse()
    while settings:
        setting = settings.pop()  # its memory serves the next runs' tables
        run = _run(study, setting, paths, parts)
        number = count - len(settings)
        if progress is not None and (number % _REPORT_EVERY == 0 or number == count):
            progress(number, count)
        table = run.table(parts.tables)
        varied = {names[path]: _at(table, path) for path in paths}
        run_id = content_hash(table, by_value=False)
        own_subset = isinstance(setting["data"], Mapping) and setting["data"].get("subset_seed") == "seed"
        runs.setdefault(run_id, PlannedRun(run_id, table, varied, run.data.path, own_subset))
    planned = list(runs.values())
    chosen = [p for p in paths if p != "seed" and not (p == "data.subset_seed" and planned[0].own_subset)]
    axes = [names[p] for p in chosen if len({repr(r.settings[names[p]]) for r in planned}) > 1]
    measures, tracks = _measures(study, planned), _tracks(study, planned)
    views = plan_views(study, planned)
    plan = Plan(study, tuple(planned), tuple(measures), tuple(axes), tuple(tracks), tuple(views))
    _check_claims(study)
    check_labels(study, [names[p] for p in paths])
    check_columns(study, {*IDENTITY, *(column for run in planned for column in run.settings)})
    return plan


def _named_tables(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a base run whose data and model are tables, so that the grid can vary their options."""
    return {k: {"name": v} if k in ("data", "model") and isinstance(v, str) else v for k, v in run.items()}


_PARTS: dict[str, type[StrictConfig]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "stop": StopConfig,
}


class _Parts:
    """The parts of settings, validated once for all runs that share them, and the tables that they become.

    Settings of a grid share their tables, so that a part is found by the identity of the table it is made from, which
    is kept. A table of data has its path from the study file's folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int], tuple[Any, Any]] = {}
        self.tables: dict[int, tuple[Any, dict[str, Any]]] = {}

    def put_into(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """Return a setting with its parts in place of their tables.

        A part that is refused stays a table: the validation of the whole run says where it is wrong.
        """
        return {
            key: self._validated(key, value) if key in _PARTS else value for key, value in setting.items()
        }

    def _validated(self, key: str, given: Any) -> Any:
        place = (key, id(given))
        if place not in self._known:
            part = self._found(given) if key == "data" else given
            with contextlib.suppress(ValueError):  # pydantic's refusals are ValueErrors
                part = _PARTS[key].model_validate(part)
            self._known[place] = (given, part)
        return self._known[place][1]

    def _found(self, data: Any) -> Any:
        if self._folder is None or not isinstance(data, Mapping) or not isinstance(data.get("path"), str):
            return data
        return {**data, "path": str(self._folder / data["path"])}


def _run(study: Study, setting: Mapping[str, Any], varied: Sequence[str], parts: _Parts) -> RunConfig:
    try:
        return RunConfig.model_validate(parts.put_into(setting))
    except ValidationError as error:
        sentence = explain(error)
        key = leading(sentence)
        written = ".".join(map(str, key))
        axis = next((p for p in varied if written == p or written.startswith(f"{p}.")), None)
        place = ("run", *key) if axis is None else _grid_place(study, axis)
        raise study.source.refusal(place, f"run.{sentence}") from error


def _grid_place(study: Study, axis: str, sentence: str = "") -> tuple[str | int, ...]:
    """Return where the grid gives an axis, in a block or a case; if the sentence names a block, there alone."""
    places: list[tuple[str | int, ...]] = [("grid", axis)]
    named = [i for i in range(len(study.config.grid)) if block_named(i) in sentence]
    for i, block in enumerate(study.config.grid):
        if named and i not in named:
            continue
        cases = block.get("cases", [])
        cases = cases if isinstance(cases, list) else []
        for at in (("grid",), ("grid", i)):
            places.append((*at, axis))
            places += [(*at, "cases", j, axis) for j in range(len(cases))]
    return next((p for p in places if study.source.has(p)), ("grid", *named))


def _measures(study: Study, runs: list[PlannedRun]) -> list[PlannedMeasure]:
    labels: set[str] = set()
    planned = []
    objective = study.config.objective.model_dump(mode="json")
    for i, given in enumerate(study.config.measures):
        spec: dict[str, Any] = {"measure": given} if isinstance(given, str) else dict(given)
        place = ("measures", i)
        try:
            where = spec.pop("where", {})
            if not isinstance(where, Mapping):
                raise InputError(
                    f"where must be a table of column = value, received {where!r}; write {{ lr = 0.1 }}"
                )
            label, measure, options = checked(spec)
            chosen = _chosen(runs, where)
        except InputError as error:
            raise study.source.refusal((*place, *_key_in(given, str(error))), f"measures: {error}") from error
        if label in labels:
            raise study.source.refusal(
                place, f'every measure needs its own name, {label!r} is given twice; add name = "..." to one'
            )
        labels.add(label)
        for run in chosen:
            resolved = _resolved(options, measure, run)
            if measure.name == "between_iterates":
                try:
                    refuse_state(run.config)
                except InputError as error:
                    raise study.source.refusal(place, str(error)) from error
            task_id = content_hash({"run": run.id, "spec": resolved, "objective": objective})
            planned.append(PlannedMeasure(task_id, run.id, label, resolved))
    return planned


def _resolved(options: Mapping[str, Any], measure: Any, run: PlannedRun) -> dict[str, Any]:
    """Return a measure's specification of one run: its own seed and rate where asked for, None for ``none``."""
    resolved = {key: None if value == "none" else value for key, value in options.items()}
    resolved["measure"] = measure.name
    if "seed" in measure.options:
        resolved.setdefault("seed", run.table["seed"])
    if resolved.get("step_size") == "learning_rate":
        resolved["step_size"] = run.table["optimizer"]["lr"]
    return resolved


def _tracks(study: Study, runs: list[PlannedRun]) -> list[PlannedTrack]:
    planned = []
    labels: set[str] = set()
    for i, track in enumerate(study.config.tracks):
        try:
            _, measure, options = checked({"measure": track.measure, **track.options})
            if measure.name == "between_iterates":
                raise InputError(
                    "'between_iterates' is taken at the end of a run and cannot be followed over it"
                )
            chosen = _chosen(runs, track.where)
        except InputError as error:
            key = _key_in(track.model_dump(), str(error))
            raise study.source.refusal(("tracks", i, *key), f"tracks: {error}") from error
        if track.label in labels:
            raise study.source.refusal(
                ("tracks", i),
                f'every track needs its own name, {track.label!r} is given twice; add name = "..."',
            )
        labels.add(track.label)
        wanted = study.config.objective
        samples = track.samples if track.samples is not None else wanted.samples
        objective = wanted.model_copy(update={"samples": samples}).model_dump(mode="json")
        for run in chosen:
            spec = _resolved(options, measure, run)
            body = {"run": run.id, "track": spec, "every": track.every, "objective": objective}
            planned.append(
                PlannedTrack(content_hash(body), run.id, track.label, spec, track.every, objective)
            )
    return planned


def _chosen(runs: list[PlannedRun], where: Mapping[str, Any]) -> list[PlannedRun]:
    if not where:
        return runs
    selection.check(where, [run.row for run in runs])
    return [run for run in runs if selection.matches(run.row, where)]


def _key_in(given: Any, sentence: str) -> tuple[str | int, ...]:
    """Return the key of a table that a sentence names, the table itself where it names none."""
    if not isinstance(given, Mapping):
        return ()
    words = sentence.replace("'", " ").replace(",", " ").split()
    named = [key for key in given if key in words and key not in ("measure", "name", "where")]
    if named:
        return (named[-1],)
    where = given.get("where")
    inside = [("where", k) for k in (where if isinstance(where, Mapping) else {}) if k in words]
    return inside[0] if inside else ("measure",) if "measure" in given else ()


def _check_claims(study: Study) -> None:
    from sharpscope.analysis.claims import read_claims

    for i, claim in enumerate(study.config.claims):
        try:
            read_claims([claim])
        except InputError as error:
            key = path_of(str(error).partition(": ")[2].split(" ")[0].rstrip(":"))
            raise study.source.refusal(("claims", i, *key), str(error)) from error
    try:
        read_claims(study.config.claims)
    except InputError as error:
        raise study.source.refusal(("claims",), str(error)) from error


def _columns(paths: list[str]) -> dict[str, str]:
    """Return a column name for every dotted path: its last part, or the whole path where that name is taken."""
    short = {path: COLUMNS.get(path, path.rpartition(".")[2]) for path in paths}
    taken = list(short.values())
    free = {path for path, name in short.items() if taken.count(name) == 1 and name not in RESERVED}
    return {path: name if path in free or path in _OWN_COLUMN else path for path, name in short.items()}


def _at(table: Any, path: str) -> Any:
    for part in path.split("."):
        table = table.get(part) if isinstance(table, Mapping) else None
    return table
