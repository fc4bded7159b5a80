"""What happens in a store at this moment: which coordinator runs which tasks, since when, and the time left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from sharpscope.sweep.store.leases import held
from sharpscope.sweep.store.liveness import (
    BEAT,
    HeartbeatState,
    Liveness,
    RunningState,
    coordinators,
    is_over,
    read_heartbeat,
    tag_of,
)
from sharpscope.sweep.store.owner import of_this_machine, place_of


@dataclass(frozen=True)
class RunningTask:
    """A running task: its place, the seconds it has run by its coordinator's clock, and the seconds it still needs.

    ``host`` and ``pid`` are those of the process that runs it, ``worker`` its number; all three are None until it has
    reported its start. ``left`` is None for a task that reports no ``fraction``.
    """

    task: str
    label: str
    worker: int | None
    host: str | None
    pid: int | None
    seconds: float
    fraction: float | None
    left: float | None


@dataclass(frozen=True)
class CoordinatorState:
    """A coordinator: its host and process, its number of workers, the seconds until all is done, its running tasks.

    ``alive`` is None for a coordinator of another machine, since one look cannot tell. ``results`` are those it has
    leases on.
    """

    id: str
    host: str
    pid: int
    alive: bool | None
    workers: int
    eta: float | None
    running: tuple[RunningTask, ...]
    results: tuple[str, ...] = field(default=())


def activity(root: Path) -> list[CoordinatorState]:
    """Return every coordinator that has a heartbeat or a lease in a store, dead ones included, sorted by id."""
    leases: dict[str, list[str]] = {}
    for result, coordinator in held(root):
        leases.setdefault(coordinator, []).append(result)
    return [_look(root, one, tuple(leases.get(one, ()))) for one in sorted({*coordinators(root), *leases})]


def at_work(root: Path) -> list[CoordinatorState]:
    """Return the coordinators that live, having waited for the next heartbeats of those of other machines.

    A coordinator that is suspended or cut off from the disk looks dead.
    """
    liveness = Liveness(root, silence=2.5 * BEAT)
    living = [one for one in activity(root) if liveness.alive(one.id)]
    if any(one.alive is None for one in living):
        time.sleep(2.5 * BEAT)
        living = [one for one in living if liveness.alive(one.id)]
    return living


def _look(root: Path, coordinator: str, results: tuple[str, ...]) -> CoordinatorState:
    state = read_heartbeat(root, coordinator) or HeartbeatState()
    tag = tag_of(coordinator)
    host, pid = place_of(tag) or (tag, 0)
    alive = not is_over(coordinator) if of_this_machine(tag) else None
    running = tuple(_running(task) for task in state.running)
    return CoordinatorState(coordinator, host, pid, alive, state.workers, state.eta, running, results)


def _running(state: RunningState) -> RunningTask:
    host, pid = place_of(state.where or "") or (None, None)
    fraction = state.fraction
    left = state.seconds * (1 - fraction) / fraction if fraction else None
    return RunningTask(state.task, state.label, state.worker, host, pid, state.seconds, fraction, left)
