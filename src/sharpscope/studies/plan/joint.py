"""Several plans as one: the tasks of all of them, each task once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sharpscope.serialization import content_hash
from sharpscope.studies.file.library import OWN, Study
from sharpscope.studies.plan.expansion import make_plan
from sharpscope.studies.plan.plan import Plan, PlannedMeasure, PlannedRun, PlannedTrack
from sharpscope.sweep import Task


@dataclass(frozen=True)
class JointPlan:
    """Several plans as one; a run or measure that several of them ask for is done once."""

    plans: tuple[Plan, ...]

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Every run of any plan, once."""
        found: dict[str, PlannedRun] = {}
        for plan in self.plans:
            for run in plan.runs:
                found.setdefault(run.id, run)
        return tuple(found.values())

    def tasks(self, data_dir: str | None = None, device: str = "cpu") -> list[Task]:
        """Return the tasks of all plans, each once, in the order of the plans.

        A run's task stands before those of its measures; tasks that need two runs stand last in each plan.
        ``data_dir`` and ``device`` say how to carry the tasks out and are no part of any identifier.
        """
        execution: dict[str, Any] = {"data_dir": data_dir, "device": device}
        tables = {run.table["data"]["digest"]: run.path for run in self.runs if run.path is not None}
        if tables:  # the path of a user's own data; a run's identifier has their content and not their path
            execution["tables"] = tables
        tracks: dict[str, dict[str, PlannedTrack]] = {}
        for plan in self.plans:
            for track in plan.tracks:
                tracks.setdefault(track.run, {}).setdefault(track.id, track)
        tasks: dict[str, Task] = {}
        for plan in self.plans:
            objective = plan.study.config.objective.model_dump(mode="json")
            configs = {run.id: run.table for run in plan.runs}
            words = {run.id: run.words for run in plan.runs}
            by_run: dict[str, list[PlannedMeasure]] = {}
            for measure in plan.measures:
                by_run.setdefault(measure.run, []).append(measure)
            for run in plan.runs:
                config = configs[run.id]
                task = _training(run, config, list(tracks.get(run.id, {}).values()), execution)
                tasks.setdefault(task.id, task)
                for m in by_run.get(run.id, []):
                    payload: dict[str, Any] = {
                        "run": config,
                        "spec": m.spec,
                        "objective": objective,
                        "execution": execution,
                    }
                    entry = "sharpscope.studies.tasks.runs:take_measure"
                    label = f"{m.label} of {words[run.id]}"
                    tasks.setdefault(m.id, Task(m.id, "measures", entry, payload, (run.id,), label))
            for view in plan.views:
                payload = {
                    "kind": view.kind,
                    "runs": [configs[run] for run in view.runs],
                    "request": view.request,
                    "objective": view.objective,
                    "execution": execution,
                }
                label = f"{view.name} of {' and '.join(words[run] for run in view.runs)}"
                entry = "sharpscope.studies.tasks.views:make_view"
                tasks.setdefault(view.id, Task(view.id, view.kind, entry, payload, view.runs, label))
        return list(tasks.values())

    @property
    def measures(self) -> tuple[PlannedMeasure, ...]:
        """Every measure of any plan, once."""
        found: dict[str, PlannedMeasure] = {}
        for plan in self.plans:
            for measure in plan.measures:
                found.setdefault(measure.id, measure)
        return tuple(found.values())

    @property
    def folder(self) -> str:
        """A name for the folder of the results: the study's or paper's, ``all`` for several papers; and the scale."""
        names = list(dict.fromkeys(plan.study.key.partition("/")[0] for plan in self.plans))
        scale = self.plans[0].study.scale
        name = names[0] if len(names) == 1 else "all"
        return name if scale == OWN else f"{name}-{scale}"

    def records(self, tasks: Sequence[Task] | None = None) -> list[dict[str, Any]]:
        """Return what the store keeps of every plan.

        A record names, for each run that a task of another id trains, that task. ``tasks`` are the tasks to be run,
        by default `tasks()`.
        """
        given = self.tasks() if tasks is None else tasks
        training = {product: task.id for task in given for product in task.produces}
        return [
            {**plan.record(), "tasks": {run.id: training[run.id] for run in plan.runs if run.id in training}}
            for plan in self.plans
        ]


def _training(
    run: PlannedRun, config: dict[str, Any], tracks: Sequence[PlannedTrack], execution: dict[str, Any]
) -> Task:
    """Return the task that trains a run, and measures it on the way where that is asked for."""
    payload: dict[str, Any] = {"run": config, "execution": execution}
    if not tracks:
        return Task(run.id, "runs", "sharpscope.studies.tasks.runs:train_run", payload, (), run.words)
    payload["tracks"] = [
        {"id": t.id, "spec": t.spec, "every": t.every, "objective": t.objective} for t in tracks
    ]
    products = (run.id, *(t.id for t in tracks))
    entry = "sharpscope.studies.tasks.tracking:train_and_track"
    task_id = content_hash({"tracked": products})
    return Task(task_id, "runs", entry, payload, (), run.words, products)


def make_joint_plan(
    studies: Sequence[Study], progress: Callable[[int, int], None] | None = None
) -> JointPlan:
    """Return the plan of several studies; see `make_plan`."""
    return JointPlan(tuple(make_plan(study, progress) for study in studies))
