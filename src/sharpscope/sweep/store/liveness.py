"""Heartbeats: how coordinators that share a store know whether another one still works.

Every coordinator keeps one file, ``coordinators/<its id>.json``, and writes it anew every few seconds with a counter
one higher. A coordinator of the same machine is alive as long as its process is. A coordinator of another machine
counts as dead when its counter has not changed for `SILENCE` seconds of the observer's own monotonic clock. No two
clocks are compared, so a clock that is wrong or that jumps changes nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, NonNegativeInt

from sharpscope.serialization import StrictConfig, write_whole
from sharpscope.sweep.store.disk_errors import disk_sentence
from sharpscope.sweep.store.owner import may_live, of_this_machine, own_tag, place_of

SILENCE = 60.0
"""Seconds without a heartbeat after which a coordinator of another machine counts as dead."""
BEAT = 2.0
"""Seconds between heartbeats."""
FOLDER = "coordinators"

_numbers = itertools.count(1)
_at_work: set[str] = set()  # the coordinators of this process that have not ended


def new_coordinator() -> str:
    """Return an id for a coordinator of this process, ``host-pid-start+number``, which no other ever has."""
    return f"{own_tag()}+{next(_numbers)}"


def tag_of(coordinator: str) -> str:
    """Return the tag of the process that a coordinator runs in."""
    return coordinator.partition("+")[0]


def is_coordinator(name: str) -> bool:
    """Return whether a text is the id of a coordinator; anyone may put a file into a store's folders."""
    tag, _, number = name.partition("+")
    return number.isdecimal() and place_of(tag) is not None


def is_over(coordinator: str) -> bool:
    """Return whether a coordinator has surely ended; False for one of another machine, of which that is unknown."""
    tag = tag_of(coordinator)
    if tag == own_tag():
        return coordinator not in _at_work
    return not may_live(tag)


class RunningState(StrictConfig):
    """A running task in a heartbeat: ``where`` is the tag of its process; None for what is not known yet."""

    model_config = ConfigDict(extra="ignore")  # a newer sharpscope may say more

    task: str
    label: str
    seconds: float
    worker: int | None = None
    where: str | None = None
    fraction: float | None = None


class HeartbeatState(StrictConfig):
    """The content of a heartbeat: a count, the number of workers, the seconds left and the running tasks."""

    model_config = ConfigDict(extra="ignore")

    beat: int = 0
    workers: NonNegativeInt = 0
    eta: float | None = None
    running: Annotated[tuple[RunningState, ...], Field(strict=False)] = ()


class Heartbeat:
    """Writes a coordinator's file every few seconds, in a thread of its own, while a ``with`` block runs.

    ``state`` is what the file holds beside the count; assign another one to change it.
    """

    def __init__(self, root: Path, coordinator: str, every: float = BEAT) -> None:
        self.state = HeartbeatState()
        self._path = root / FOLDER / f"{coordinator}.json"
        self._scratch = root / "tmp" / f"heartbeat@{coordinator}"
        self._coordinator = coordinator
        self._every = every
        self._beat = 0
        self._stopped = threading.Event()
        self._trouble: OSError | None = None
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Heartbeat:
        _at_work.add(self._coordinator)
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()
        _at_work.discard(self._coordinator)
        for path in (self._path, self._scratch):
            with contextlib.suppress(OSError):
                path.unlink()

    def failure(self) -> str | None:
        """Return a sentence when no heartbeat has reached the disk for half the time that others wait for one."""
        trouble = self._trouble
        if trouble is None or time.monotonic() - self._last < SILENCE / 2:
            return None
        return disk_sentence("tell other coordinators that this one lives", trouble)

    def beat(self) -> None:
        """Write the file with the next count; an error of the disk is kept for `failure`."""
        self._beat += 1
        text = self.state.model_copy(update={"beat": self._beat}).model_dump_json()
        try:
            write_whole(self._path, text, scratch=self._scratch, durable=False)
        except OSError as error:
            self._trouble = error
        else:
            self._trouble, self._last = None, time.monotonic()

    def _go_on(self) -> None:
        while not self._stopped.wait(self._every):
            self.beat()


def read_heartbeat(root: Path, coordinator: str) -> HeartbeatState | None:
    """Return the content of a coordinator's file, None when there is none that can be read."""
    try:
        return HeartbeatState.model_validate_json((root / FOLDER / f"{coordinator}.json").read_bytes())
    except (OSError, ValueError):
        return None


def coordinators(root: Path) -> list[str]:
    """Return the ids of all coordinators that have a file, sorted, whether they live or not."""
    names = (path.name.removesuffix(".json") for path in root.glob(f"{FOLDER}/*.json"))
    return sorted(name for name in names if is_coordinator(name))


class Liveness:
    """Says which coordinators live, by whether their counters have changed between calls of `alive`.

    `clock` returns seconds that never run backwards; tests pass their own.
    """

    def __init__(
        self, root: Path, silence: float = SILENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._silence = silence
        self._clock = clock
        # coordinator -> its counter, and when that count was first seen
        self._seen: dict[str, tuple[int | None, float]] = {}

    def alive(self, coordinator: str) -> bool:
        """Return whether a coordinator may still be at work."""
        if of_this_machine(tag_of(coordinator)):
            return not is_over(coordinator)
        state = read_heartbeat(self._root, coordinator)
        beat = None if state is None else state.beat
        now = self._clock()
        last, since = self._seen.setdefault(coordinator, (beat, now))
        if beat != last:
            self._seen[coordinator] = (beat, now)
            return True
        return now - since < self._silence
