"""Rates and time left, from the events of a sweep."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_ALMOST = 0.95  # the largest share that a running task which reports nothing counts as done


@dataclass(frozen=True)
class Snapshot:
    """Where a call stands, in numbers of results; a task that produces several counts as many.

    ``total`` of all results, ``done`` since this call began, ``elsewhere`` those of them that other coordinators
    did, ``skipped`` as done before, ``running`` here, ``failed``, ``blocked``; ``finished`` is the share of the total
    that needs no more work, in [0, 1], counting parts of running tasks; ``rate`` is in results per minute; ``eta`` is
    the time left in seconds. The last two are None while there is nothing to judge them by.
    """

    total: int
    done: int
    elsewhere: int
    skipped: int
    running: int
    failed: int
    blocked: int
    finished: float
    rate: float | None
    eta: float | None


@dataclass
class _Share:
    """A running task: its results, when its work began, the share done by then, and its last report."""

    kind: str
    results: int
    since: float
    base: float | None
    share: float | None = None
    said: float = 0.0

    def seen(self) -> float:
        """Return the share of the task that was done between `since` and `said`."""
        return 0.0 if self.share is None or self.base is None else max(0.0, self.share - self.base)

    def estimate(self, now: float, duration: float | None) -> float:
        """Return the share that is done by now, if one result takes `duration` seconds."""
        share, at = (0.0, self.since) if self.share is None else (self.share, self.said)
        if not duration:
            return share
        return max(share, min(share + (now - at) / (duration * self.results), _ALMOST))


class SweepProgress:
    """Follows the events of `run_tasks`, and estimates the rate and the time left.

    The time left is the sum over kinds of result of what remains of the kind times what one of it has taken so far,
    divided by the workers that can share it, other coordinators' included. A kind that none has been seen of is taken
    to last as long as the average of the others. Running tasks count by the ``fraction`` they report, or else by
    their age.

    `clock` returns seconds; tests pass their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin: float | None = None
        self._workers = 1
        self._others = 0  # workers of other coordinators
        self._elsewhere = 0
        self._total: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()  # kind -> results that need no more work
        self._counts: Counter[str] = Counter()  # event -> results
        self._work: dict[str, float] = {}  # kind -> results finished here, parts of results included
        self._busy: dict[str, float] = {}  # kind -> how many seconds that took
        self._running: dict[str, _Share] = {}

    def update(self, event: Mapping[str, Any]) -> None:
        """Take note of one event."""
        now, name, task = self._clock(), event["event"], event.get("task", "")
        results = event.get("results", 1)
        if name == "plan":
            self._total = Counter(event["total"])
            self._workers = max(1, event["workers"])
            self._begin = now
        elif name == "peers":
            self._others = event["workers"]
        elif name == "start":
            # How much of a resumed task was there before, only its first report can tell.
            self._running[task] = _Share(event["kind"], results, now, None if event.get("resumed") else 0.0)
        elif name == "progress" and task in self._running and "fraction" in event:
            running, share = self._running[task], min(1.0, max(0.0, float(event["fraction"])))
            if running.base is None:
                running.base, running.since = share, now
            running.share, running.said = share, now
        elif name in ("crashed", "interrupted", "overtaken"):
            self._running.pop(task, None)
        elif name in ("done", "failed", "blocked", "skipped"):
            ended = self._running.pop(task, None)
            self._counts[name] += results
            self._ended[event["kind"]] += results
            if name == "done" and event.get("elsewhere"):
                self._elsewhere += results
            elif name == "done" and ended is not None:
                kind = ended.kind
                self._work[kind] = self._work.get(kind, 0.0) + results * (1.0 - (ended.base or 0.0))
                self._busy[kind] = self._busy.get(kind, 0.0) + now - ended.since

    def snapshot(self) -> Snapshot:
        """Return where things stand now."""
        now = self._clock()
        work, busy = dict(self._work), dict(self._busy)
        for task in self._running.values():
            if task.seen() > 0:
                work[task.kind] = work.get(task.kind, 0.0) + task.results * task.seen()
                busy[task.kind] = busy.get(task.kind, 0.0) + task.said - task.since
        all_work = sum(work.values())
        average = sum(busy.values()) / all_work if all_work > 0 else None
        duration = {k: busy[k] / work[k] if work.get(k, 0.0) > 0 else average for k in self._total}

        left = {kind: float(count - self._ended[kind]) for kind, count in self._total.items()}
        waits_for_itself = 0.0  # no number of workers finishes a running task sooner than it can run
        for task in self._running.values():
            seconds = duration.get(task.kind)
            remaining = task.results * (1.0 - task.estimate(now, seconds))
            left[task.kind] = left.get(task.kind, 0.0) - task.results + remaining
            waits_for_itself = max(waits_for_itself, remaining * (seconds or 0.0))

        total, ended = sum(self._total.values()), sum(self._ended.values())
        elapsed = now - self._begin if self._begin is not None else 0.0
        worked = all_work + self._elsewhere
        per_second = worked / elapsed if worked > 0 and elapsed > 0 else None
        eta: float | None = 0.0
        if ended < total:
            eta = None
            if average is not None:
                serial = sum(left[kind] * (duration.get(kind) or 0.0) for kind in left)
                eta = max(waits_for_itself, serial / min(self._workers + self._others, total - ended))
            elif per_second is not None:  # others alone have brought anything to its end
                eta = sum(left.values()) / per_second
        return Snapshot(
            total=total,
            done=self._counts["done"],
            elsewhere=self._elsewhere,
            skipped=self._counts["skipped"],
            running=len(self._running),
            failed=self._counts["failed"],
            blocked=self._counts["blocked"],
            finished=1.0 - sum(left.values()) / total if total else 1.0,
            rate=None if per_second is None else 60.0 * per_second,
            eta=eta,
        )
