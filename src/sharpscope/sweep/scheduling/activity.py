"""What goes on in a store at this moment, for whoever looks on: who works on what, since when and how long still."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharpscope.sweep.scheduling.heartbeat import BEAT, Watch, coordinators, is_over, read_heartbeat, tag_of
from sharpscope.sweep.scheduling.leases import held
from sharpscope.sweep.store.owner import of_this_machine


@dataclass(frozen=True)
class Running:
    """A running task: where, for how many seconds by its coordinator's clock, and how many it still needs.

    ``host`` and ``pid`` are those of the process that does it, ``worker`` its number; all three are None until it has
    said that it began. ``left`` is None for a task that reports no ``fraction``.
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
class Coordinator:
    """A coordinator: where it runs, how many tasks at a time, what, and in how many seconds all will be done.

    ``alive`` is None for one of another machine, which one look cannot tell. ``results`` are those it has leases on.
    """

    id: str
    host: str
    pid: int
    alive: bool | None
    workers: int
    eta: float | None
    running: tuple[Running, ...]
    results: tuple[str, ...] = field(default=())


def activity(root: Path) -> list[Coordinator]:
    """Return every coordinator that has a heartbeat or a lease in a store, sorted by id, the dead ones too."""
    leases: dict[str, list[str]] = {}
    for result, coordinator in held(root):
        leases.setdefault(coordinator, []).append(result)
    return [_look(root, one, tuple(leases.get(one, ()))) for one in sorted({*coordinators(root), *leases})]


def at_work(root: Path) -> list[Coordinator]:
    """Return the coordinators that live; where there are some of other machines, wait for their next heartbeats.

    One that is suspended or cut off looks dead.
    """
    watch = Watch(root, silence=2.5 * BEAT)
    living = [one for one in activity(root) if watch.alive(one.id)]
    if any(one.alive is None for one in living):
        time.sleep(2.5 * BEAT)
        living = [one for one in living if watch.alive(one.id)]
    return living


def _look(root: Path, coordinator: str, results: tuple[str, ...]) -> Coordinator:
    state = read_heartbeat(root, coordinator) or {}
    tag = tag_of(coordinator)
    host, pid = _place(tag)
    return Coordinator(
        coordinator,
        host,
        pid,
        not is_over(coordinator) if of_this_machine(tag) else None,
        int(state.get("workers", 0)),
        state.get("progress", {}).get("eta"),
        tuple(_running(entry) for entry in state.get("running", ())),
        results,
    )


def _running(entry: dict[str, Any]) -> Running:
    host, pid = _place(entry["where"]) if entry["where"] else (None, None)
    seconds, fraction = float(entry["seconds"]), entry["fraction"]
    left = seconds * (1 - fraction) / fraction if fraction else None
    return Running(entry["task"], entry["label"], entry["worker"], host, pid, seconds, fraction, left)


def _place(tag: str) -> tuple[str, int]:
    """Return the host and process number of a tag."""
    host, pid, _ = tag.rsplit("-", 2)
    return host, int(pid)
