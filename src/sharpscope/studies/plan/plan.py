"""What a study will do: its runs, measures, tracks and views, each with its identifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sharpscope import __version__
from sharpscope.serialization import content_hash
from sharpscope.studies.file.library import Study
from sharpscope.studies.plan import selection
from sharpscope.studies.plan.views import PlannedView
from sharpscope.studies.tasks.run_measures import checked
from sharpscope.training import RunConfig


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a study: its identifier, its configuration and the values of what varies.

    The configuration is kept as the table that its task is given, which takes a third of the memory; runs share the
    parts in which they do not differ. ``path`` is where a table of the user's own lies, which is no part of that.
    """

    id: str
    table: dict[str, Any]
    settings: dict[str, Any]
    path: str | None = None
    own_subset: bool = False
    """Whether the seed draws the subset of the data as well (``subset_seed = "seed"``)."""

    @property
    def config(self) -> RunConfig:
        """The configuration, made anew at each call."""
        if self.path is None:
            return RunConfig.model_validate(self.table)
        return RunConfig.model_validate({**self.table, "data": {**self.table["data"], "path": self.path}})

    @property
    def configuration(self) -> str:
        """The identifier of the setting without the seed and what follows it: the cluster of its repetitions."""
        setting = {key: value for key, value in self.table.items() if key != "seed"}
        if self.own_subset:
            setting["data"] = {**setting["data"], "subset_seed": "seed"}
        return content_hash(setting)

    def alike(self, *apart_from: str) -> tuple[Any, ...]:
        """Return what is equal for runs of one plan that are the same apart from the keys named.

        Parts are told apart by the identity of their tables, which runs share; runs that are alike may differ here.
        """
        return tuple(
            id(value) if isinstance(value, dict | list) else value
            for key, value in self.table.items()
            if key not in apart_from
        )

    @property
    def row(self) -> dict[str, Any]:
        """The columns by which the study's selections choose among runs."""
        return selection.columns(self.settings, self.table)

    @property
    def words(self) -> str:
        """What sets the run apart, for people."""
        return ", ".join(f"{k}={_short(v)}" for k, v in self.settings.items()) or self.id


@dataclass(frozen=True)
class PlannedMeasure:
    """One measure of one run: its identifier, its label in tables and its specification without the label."""

    id: str
    run: str
    label: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class PlannedTrack:
    """One measure followed over one run's training: at the first, every ``every``-th and the last epoch."""

    id: str
    run: str
    label: str
    spec: dict[str, Any]
    every: int
    objective: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Everything a study will do, in order."""

    study: Study
    runs: tuple[PlannedRun, ...]
    measures: tuple[PlannedMeasure, ...]
    axes: tuple[str, ...]
    tracks: tuple[PlannedTrack, ...] = ()
    views: tuple[PlannedView, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return what the store keeps of the plan, enough to tabulate and report without the study file."""
        config = self.study.config
        clusters: dict[tuple[Any, ...], str] = {}
        runs = []
        for run in self.runs:
            alike = run.alike("seed")  # of runs with subsets of their own none
            if alike not in clusters:
                clusters[alike] = run.configuration
            runs.append({"id": run.id, "configuration": clusters[alike], "settings": run.settings})
        return {
            "name": config.name,
            "key": self.study.key,
            "scale": self.study.scale,
            "paper": self.study.paper,
            "origin": self.study.origin,
            "version": __version__,
            "title": config.title,
            "description": config.description,
            "citation": config.citation,
            "note": config.remark(),
            "source": self.study.source.text,
            "objective": config.objective.model_dump(mode="json"),
            "axes": list(self.axes),
            "measure_info": {label: self._info(spec) for label, spec in self._specs()},
            "runs": runs,
            "measures": [
                {"id": m.id, "run": m.run, "label": m.label, "of": m.spec["measure"]} for m in self.measures
            ],
            "tracks": [{"id": t.id, "run": t.run, "label": t.label} for t in self.tracks],
            "views": [{"id": v.id, "kind": v.kind, "name": v.name, "runs": list(v.runs)} for v in self.views],
            "figures": [figure.model_dump(mode="json") for figure in config.figures],
            "claims": config.claims,
            "requires": config.requires,
        }

    def _specs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from ((t.label, t.spec) for t in self.tracks)
        yield from ((m.label, m.spec) for m in self.measures)

    def _info(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a report says of a measure; its title names the options that differ from the defaults."""
        _, known, _ = checked(spec)
        own = [
            f"{key} {_short(value)}"
            for key, value in spec.items()
            if key in known.options and key != "seed" and value != known.options[key]
        ]
        return {
            "title": f"{known.title} ({', '.join(own)})" if own else known.title,
            "symbol": known.symbol,
            "definition": known.definition,
            "unit": known.unit,
        }


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
