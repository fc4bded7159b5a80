"""What a study will do: its runs, measures, tracks and views, each with its identifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sharpscope import __version__
from sharpscope.serialization import content_hash
from sharpscope.studies.file.library import Study
from sharpscope.studies.plan import selection
from sharpscope.studies.plan.views import PlannedView
from sharpscope.studies.tasks.run_measures import checked
from sharpscope.training import RunConfig


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study: its configuration and the values of what varies."""

    config: RunConfig
    settings: dict[str, Any]

    @cached_property
    def id(self) -> str:
        """The run's identifier."""
        return self.config.run_id()

    @property
    def configuration(self) -> str:
        """The identifier of the setting without the seed: the cluster of its repetitions."""
        return content_hash(self.config.model_dump(mode="json", exclude={"seed"}))

    @property
    def row(self) -> dict[str, Any]:
        """The columns by which the study's selections choose among runs."""
        return selection.columns(self.settings, self.config)

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
            "runs": [
                {"id": r.id, "configuration": r.configuration, "settings": r.settings} for r in self.runs
            ],
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
