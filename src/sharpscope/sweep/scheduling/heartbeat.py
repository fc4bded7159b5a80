"""Signs of life: what tells coordinators that share a store whether another of them still works.

Every coordinator keeps one file, ``coordinators/<its id>.json``, and writes it anew every few seconds with a counter
one higher. On the same machine nobody needs it: a process either lives or it does not. Of another machine, a
coordinator is taken for dead when its counter has stood still for `SILENCE` seconds as the observer's own monotonic
clock counts them. No clock is compared with another, so that one that is wrong, or set anew, cannot matter.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sharpscope.serialization import write_whole
from sharpscope.sweep.store.disk_errors import disk_sentence
from sharpscope.sweep.store.owner import may_live, of_this_machine, own_tag

SILENCE = 60.0
"""Seconds without a heartbeat after which a coordinator of another machine counts as dead."""
BEAT = 2.0
"""Seconds between heartbeats."""
FOLDER = "coordinators"

_numbers = itertools.count(1)
_at_work: set[str] = set()  # the coordinators of this process; one that is over holds nothing any more


def new_coordinator() -> str:
    """Return an id for a coordinator of this process, ``host-pid-start+number``, told from any other for good."""
    return f"{own_tag()}+{next(_numbers)}"


def tag_of(coordinator: str) -> str:
    """Return the tag of the process that a coordinator runs in."""
    return coordinator.partition("+")[0]


def is_over(coordinator: str) -> bool:
    """Return whether a coordinator surely works no more; never true of another machine's, which cannot be asked."""
    tag = tag_of(coordinator)
    if tag == own_tag():
        return coordinator not in _at_work
    return not may_live(tag)


class Heart:
    """Beats for a coordinator, in a thread of its own, from entering a ``with`` block to leaving it.

    ``state`` is what the file tells of the coordinator beside its counter; whoever wants it to change puts another
    table in its place.
    """

    def __init__(self, root: Path, coordinator: str, every: float = BEAT) -> None:
        self.state: Mapping[str, Any] = {}
        self._path = root / FOLDER / f"{coordinator}.json"
        self._scratch = root / "tmp" / f"heartbeat@{coordinator}"
        self._coordinator = coordinator
        self._every = every
        self._beat = 0
        self._stopped = threading.Event()
        self._trouble: OSError | None = None
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Heart:
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
        """Return a sentence when no beat has reached the disk for half the time that others wait for one."""
        trouble = self._trouble
        if trouble is None or time.monotonic() - self._last < SILENCE / 2:
            return None
        return disk_sentence("tell other coordinators that this one lives", trouble)

    def beat(self) -> None:
        """Write the file anew; what the disk refuses is kept for `failure`."""
        self._beat += 1
        text = json.dumps({**self.state, "beat": self._beat}, default=str)
        try:
            write_whole(self._path, text, scratch=self._scratch, durable=False)
        except OSError as error:
            self._trouble = error
        else:
            self._trouble, self._last = None, time.monotonic()

    def _go_on(self) -> None:
        while not self._stopped.wait(self._every):
            self.beat()


def read_heartbeat(root: Path, coordinator: str) -> dict[str, Any] | None:
    """Return what a coordinator's file tells, None when there is none that can be read."""
    try:
        content = json.loads((root / FOLDER / f"{coordinator}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def coordinators(root: Path) -> list[str]:
    """Return the ids of all coordinators that have a file, sorted, whether they live or not."""
    return sorted(path.name.removesuffix(".json") for path in root.glob(f"{FOLDER}/*.json"))


class Watch:
    """Says which coordinators live; one must be kept and asked again, for it goes by what has changed since.

    `clock` gives seconds that never run backwards; tests hand in their own.
    """

    def __init__(
        self, root: Path, silence: float = SILENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._silence = silence
        self._clock = clock
        self._seen: dict[
            str, tuple[object, float]
        ] = {}  # coordinator -> its counter, and when it was first seen

    def alive(self, coordinator: str) -> bool:
        """Return whether a coordinator may still be at work."""
        if of_this_machine(tag_of(coordinator)):
            return not is_over(coordinator)
        beat = (read_heartbeat(self._root, coordinator) or {}).get("beat")
        now = self._clock()
        last, since = self._seen.setdefault(coordinator, (beat, now))
        if beat != last:
            self._seen[coordinator] = (beat, now)
            return True
        return now - since < self._silence
