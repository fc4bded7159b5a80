"""One coordinator among those that share a store: its leases, its heartbeat and its view of the others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sharpscope.sweep.store.leases import Leases
from sharpscope.sweep.store.liveness import (
    SILENCE,
    Heartbeat,
    HeartbeatState,
    Liveness,
    coordinators,
    new_coordinator,
    read_heartbeat,
)


@dataclass(frozen=True)
class Peers:
    """The other coordinators at work in a store: how many, and their workers together."""

    coordinators: int = 0
    workers: int = 0


class Sharing:
    """A coordinator's presence in a store while a ``with`` block runs.

    `workers` is how many tasks it runs at a time, and `silence` how many seconds a coordinator of another machine may
    go without a heartbeat before its leases are taken over; see `sharpscope.sweep.store.liveness`.
    """

    def __init__(self, root: Path, workers: int, silence: float = SILENCE) -> None:
        self._root = root
        self._id = new_coordinator()
        self._liveness = Liveness(root, silence)
        self._heartbeat = Heartbeat(root, self._id)
        self._heartbeat.state = HeartbeatState(workers=workers)
        self.leases = Leases(root, self._id, self._liveness)

    def __enter__(self) -> Sharing:
        self._heartbeat.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self.leases.give_up_all()
        self._heartbeat.__exit__(*exception)

    def show(self, state: HeartbeatState) -> None:
        """Publish this state of the coordinator with the next heartbeat."""
        self._heartbeat.state = state

    def failure(self) -> str | None:
        """Return why heartbeats do not reach the disk, None as long as they do."""
        return self._heartbeat.failure()

    def peers(self) -> Peers:
        """Return the other coordinators that live, counted."""
        states = [
            read_heartbeat(self._root, other)
            for other in coordinators(self._root)
            if other != self._id and self._liveness.alive(other)
        ]
        # a coordinator of no workers holds `exclusive` for a moment
        workers = [state.workers for state in states if state is not None and state.workers]
        return Peers(len(workers), sum(workers))


@contextlib.contextmanager
def exclusive(root: Path, what: str) -> Iterator[None]:
    """Let one process at a time into the ``with`` block, among all that ask for the same name in a store."""
    with Sharing(root, workers=0) as here:
        while here.leases.take([what]) is not None:
            time.sleep(0.05)
        yield
