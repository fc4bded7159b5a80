"""Runs that differ in nothing but numbers, trained at the same time by one task where that is faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpscope.serialization import content_hash
from sharpscope.studies.tasks.runs import forget_data, publish_run, untrained
from sharpscope.sweep import Interrupted, Task, TaskContext
from sharpscope.training import RunConfig, group_key

ALONE = "sharpscope.studies.tasks.runs:train_run"
_TOGETHER = "sharpscope.studies.plan.grouping:train_runs"


def grouped(
    tasks: Sequence[Task],
    size_of: Callable[[RunConfig], int],
    workers: int,
    there: Callable[[str], bool] = lambda result: False,
) -> list[Task]:
    """Return the tasks with those that train a single run put together, at most ``size_of(run)`` in one.

    Groups are no larger than leaves every one of the `workers` something to do. A group stands where its first run
    stood, and produces what its runs did, so that nothing else about the tasks changes. Families of runs whose
    results are all `there` are left as they are.
    """
    families: dict[str, list[Task]] = {}
    for task in tasks:
        key = group_key(RunConfig.model_validate(task.payload["run"])) if task.entry == ALONE else None
        if key is not None:
            families.setdefault(key, []).append(task)
    place: dict[str, Task | None] = {task.id: task for task in tasks}
    for family in families.values():
        if len(family) == 1 or all(there(task.id) for task in family):
            continue
        most = min(size_of(RunConfig.model_validate(family[0].payload["run"])), -(-len(family) // workers))
        for start in range(0, len(family), most):
            members = family[start : start + most]
            if len(members) > 1:
                place |= dict.fromkeys(member.id for member in members)
                place[members[0].id] = _group(members)
    return [task for task in place.values() if task is not None]


def _group(members: Sequence[Task]) -> Task:
    runs = tuple(member.id for member in members)
    payload = {
        "runs": [member.payload["run"] for member in members],
        "execution": members[0].payload["execution"],
    }
    words = f"{len(runs)} runs together, from {members[0].label}"
    return Task(content_hash({"together": runs}), members[0].kind, _TOGETHER, payload, (), words, runs)


def train_runs(payload: Mapping[str, Any], context: TaskContext) -> None:
    """Train those of several runs that are missing, at the same time, and publish each as if it had been alone."""
    from sharpscope.training import train_together

    execution = payload["execution"]
    runs = [RunConfig.model_validate(run) for run in payload["runs"]]
    runs = [run for run in runs if run.run_id() in context.missing]
    made = [untrained(run, execution, context) for run in runs]
    dataset, models = made[0][0], [model for _, model in made]
    epochs = [0] * len(runs)

    def tell(number: int, row: Mapping[str, Any]) -> None:
        epochs[number] = row["epoch"]
        share = sum(done / run.stop.epochs for done, run in zip(epochs, runs, strict=True)) / len(runs)
        context.report({"fraction": share, "epoch": max(epochs), "loss": row["epoch_loss"]})

    outcomes = train_together(
        runs,
        dataset,
        models,
        workspace=context.workspace,
        device=execution["device"],
        on_epoch=tell,
        should_stop=context.should_stop,
    )
    if any(outcome.status == "interrupted" for outcome in outcomes):
        raise Interrupted
    for run, model, outcome in zip(runs, models, outcomes, strict=True):
        publish_run(run, dataset, model, outcome, execution, context, context.output / run.run_id())


def measured_size(execution: Mapping[str, Any], threads: int) -> Callable[[RunConfig], int]:
    """Return what says how many runs of a kind train best at the same time on this machine."""

    def size_of(run: RunConfig) -> int:
        import torch

        from sharpscope.training import group_size

        before = torch.get_num_threads()
        context = TaskContext(Path(), Path(), threads=threads)
        try:
            return group_size(
                run,
                lambda: untrained(run, execution, context),
                device=execution["device"],
                threads=threads,
            )
        finally:
            torch.set_num_threads(before)
            forget_data()

    return size_of
