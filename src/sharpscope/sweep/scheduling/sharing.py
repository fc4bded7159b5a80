"""One coordinator among those that share a store: it takes leases, shows that it lives and sees who else does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpscope.sweep.scheduling.heartbeat import (
    SILENCE,
    Heart,
    Watch,
    coordinators,
    new_coordinator,
    read_heartbeat,
)
from sharpscope.sweep.scheduling.leases import Leases


@dataclass(frozen=True)
class Peers:
    """The other coordinators at work in a store: how many, and their workers together."""

    coordinators: int = 0
    workers: int = 0


class Sharing:
    """The part of one coordinator in a store, from entering a ``with`` block to leaving it.

    `workers` is how many tasks it runs at a time, and `silence` how many seconds a coordinator of another machine may
    go without a heartbeat before its leases are taken over; see `sharpscope.sweep.scheduling.heartbeat`.
    """

    def __init__(self, root: Path, workers: int, silence: float = SILENCE) -> None:
        self._root = root
        self._id = new_coordinator()
        self._watch = Watch(root, silence)
        self._heart = Heart(root, self._id)
        self._heart.state = {"workers": workers}
        self.leases = Leases(root, self._id, self._watch)

    def __enter__(self) -> Sharing:
        self._heart.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self.leases.give_up_all()
        self._heart.__exit__(*exception)

    def show(self, state: Mapping[str, Any]) -> None:
        """Let others read this of what goes on here, from the next heartbeat on."""
        self._heart.state = state

    def failure(self) -> str | None:
        """Return why others cannot see that this coordinator lives, None as long as they can."""
        return self._heart.failure()

    def peers(self) -> Peers:
        """Return who else is at work."""
        living = [
            read_heartbeat(self._root, other) or {}
            for other in coordinators(self._root)
            if other != self._id and self._watch.alive(other)
        ]
        living = [state for state in living if state.get("workers") != 0]  # who is only `alone` for a moment
        return Peers(
            len(living),
            sum(int(state.get("workers", 0)) for state in living),
        )


@contextlib.contextmanager
def alone(root: Path, what: str) -> Iterator[None]:
    """Keep everyone else out who asks for the same in a store, for the moment that a ``with`` block takes."""
    with Sharing(root, workers=0) as here:
        while here.leases.take([what]) is not None:
            time.sleep(0.05)
        yield
