"""The coordinator of one call: which tasks run here, which elsewhere, and the outcome of each."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.sweep.executors import Executor, Message
from sharpscope.sweep.scheduling.progress import SweepProgress
from sharpscope.sweep.scheduling.schedule import TaskSchedule
from sharpscope.sweep.store.liveness import HeartbeatState, RunningState
from sharpscope.sweep.store.sharing import Peers, Sharing
from sharpscope.sweep.store.store import Failure, Store

CRASHES_ALLOWED = 3
"""Workers a task may kill in one call before it counts as failed."""

_TICK = 0.2  # seconds between looks at whether the user has pressed Ctrl-C
_LOOK = 1.0  # seconds between looks at what other coordinators do
_DISK_PATIENCE = 30.0  # seconds that running tasks get to stop once the disk has failed


@dataclass(frozen=True)
class Summary:
    """What a call of `run_tasks` did, in numbers of results; a task that produces several counts as many.

    ``done`` now, ``elsewhere`` those of them that other coordinators did, ``skipped`` because it was there already,
    ``failed`` with a record in ``failures``, ``blocked`` because one it needs failed. ``interrupted`` says that the
    user asked to stop and that the rest was not reached; ``seconds`` is the wall time.
    """

    done: int
    skipped: int
    failed: int
    blocked: int
    interrupted: bool
    seconds: float
    failures: tuple[Failure, ...] = ()
    elsewhere: int = 0


class Coordinator:
    """Starts the tasks of a schedule in an executor, follows them to their outcomes, and emits events.

    Tasks that other coordinators of the store hold leases on are followed there.
    """

    def __init__(
        self,
        store: Store,
        schedule: TaskSchedule,
        executor: Executor,
        sharing: Sharing,
        emit: Callable[[Message], None],
    ) -> None:
        self._store = store
        self._schedule = schedule
        self._executor = executor
        self._sharing = sharing
        self._watcher = emit
        self._progress = SweepProgress()
        self._running: dict[str, _RunningTask] = {}
        self._elsewhere: set[str] = set()  # tasks that another coordinator holds the lease of
        self._over: set[str] = set()  # tasks with an outcome
        self._crashes: Counter[str] = Counter()
        self._count: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._earlier_failures = store.failure_marks()
        self._peers = Peers()
        self._looked = -math.inf
        self._disk: str | None = None

    def run(self, stop_requests: Callable[[], int]) -> Summary:
        """Work until every task has an outcome, the user asks to stop, or the disk fails; see `run_tasks`.

        `stop_requests` returns how often the user has asked to stop: once means save and stop, twice kill.
        """
        start = time.monotonic()
        kinds: Counter[str] = Counter()
        for task in self._schedule.tasks.values():
            kinds[task.kind] += len(task.products)
        self._emit({"event": "plan", "total": dict(kinds), "workers": self._executor.workers})
        for task_id, results in self._schedule.there.items():
            self._tell("skipped", task_id, results=results)
        stopped_at: float | None = None
        while True:
            stopping = stop_requests() > 0 or self._disk is not None
            if stopping and stopped_at is None:
                stopped_at = time.monotonic()
                self._executor.ask_to_stop()
                why = self._disk or "asked to stop"
                self._emit({"event": "stopping", "running": len(self._running), "why": why})
            try:
                if not stopping and self._schedule.missing:
                    self._start_tasks()
                    self._follow_others()
            except StoreError as error:
                self._disk = self._disk or str(error)
            if not self._running and (stopping or not (self._elsewhere or self._schedule.ready())):
                break
            late = stopped_at is not None and time.monotonic() - stopped_at > _DISK_PATIENCE
            if stop_requests() > 1 or (self._disk is not None and late):
                self._executor.kill()
                break
            for message in self._executor.wait(_TICK):
                self._hear(message)
        if self._disk is not None:
            raise StoreError(self._disk)
        ended = sum(self._count[outcome] for outcome in ("done", "skipped", "failed", "blocked"))
        return Summary(
            done=self._count["done"],
            skipped=self._count["skipped"],
            failed=self._count["failed"],
            blocked=self._count["blocked"],
            interrupted=stop_requests() > 0 and ended < self._schedule.results(),
            seconds=time.monotonic() - start,
            failures=tuple(self._failures),
            elsewhere=self._count["elsewhere"],
        )

    def _start_tasks(self) -> None:
        """Start tasks while there is room."""
        while self._executor.room() > 0 and (task := self._schedule.take()) is not None:
            if task.id in self._over:
                continue
            missing = self._schedule.missing[task.id]
            if self._sharing.leases.take(missing) is not None:
                self._elsewhere.add(task.id)
            elif not self._ended_elsewhere(task.id):
                self._running[task.id] = _RunningTask(time.monotonic())
                self._executor.submit(task)

    def _follow_others(self) -> None:
        """Once a second, take note of what other coordinators have done, and publish what happens here."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        self._publish_state()
        self._disk = self._disk or self._sharing.failure()
        peers = self._sharing.peers()
        if peers != self._peers:
            self._emit({"event": "peers", **dataclasses.asdict(peers)})
        if peers.coordinators or self._peers.coordinators or self._elsewhere:
            published = self._store.published()
            for task_id, missing in self._schedule.missing.items():
                pending = task_id not in self._over and task_id not in self._running
                if pending and all(result in published for result in missing):
                    self._ended_elsewhere(task_id)
        self._peers = peers
        for task_id in [t for t in self._elsewhere if t not in self._over]:
            if self._sharing.leases.others(self._schedule.missing[task_id]) is None:
                self._elsewhere.discard(task_id)
                self._schedule.give_back(task_id)
        self._elsewhere -= self._over

    def _ended_elsewhere(self, task_id: str) -> bool:
        """Return whether another coordinator has brought a task to its outcome; if so, take note of that."""
        missing = self._schedule.missing[task_id]
        failures = []
        if not all(map(self._store.has, missing)):
            for result in missing:
                failure = self._store.newer_failure(result, self._earlier_failures.get(result))
                if failure is None:
                    return False
                failures.append(failure)
        self._sharing.leases.give_up(missing)
        self._over.add(task_id)
        if failures:
            self._failed(task_id, failures, elsewhere=True)
        else:
            self._count["elsewhere"] += len(missing)
            self._tell("done", task_id, elsewhere=True)
            for result in missing:
                self._schedule.made(result)
        return True

    def _overtaken(self, task_id: str) -> bool:
        """Return whether another coordinator has taken over a task whose attempt here ended without a result.

        That happens to a coordinator that was suspended for longer than others wait: its leases are gone, and its
        attempt failed because its workspace was moved away. The task is then followed as others' tasks are.
        """
        missing = self._schedule.missing[task_id]
        if self._sharing.leases.held(missing):
            return False
        self._sharing.leases.give_up(missing)
        del self._running[task_id]
        self._elsewhere.add(task_id)
        self._tell("overtaken", task_id)
        return True

    def _publish_state(self) -> None:
        """Publish what happens here with the next heartbeat."""
        now = time.monotonic()
        running = [
            RunningState(
                task=task_id,
                label=self._schedule.tasks[task_id].label,
                seconds=now - state.since,
                worker=state.worker,
                where=state.where,
                fraction=state.fraction,
            )
            for task_id, state in self._running.items()
        ]
        eta, workers = self._progress.snapshot().eta, self._executor.workers
        self._sharing.show(HeartbeatState(workers=workers, eta=eta, running=tuple(running)))

    def _hear(self, message: Message) -> None:
        """Act on one message of the executor."""
        event, task_id = message["event"], message["task"]
        if event in ("lost", "failed", "disk") and self._overtaken(task_id):
            return
        if event == "lost" and all(map(self._store.has, self._schedule.missing[task_id])):
            event = "done"  # it died between publishing and saying so
        if event in ("start", "progress", "log"):
            self._running[task_id].hear(message)
            self._tell(event, task_id, **{k: v for k, v in message.items() if k not in ("event", "task")})
            return
        seconds = time.monotonic() - self._running[task_id].since
        if event == "lost":
            self._crashes[task_id] += 1
            attempt = self._crashes[task_id]
            self._tell("crashed", task_id, reason=message["reason"], attempt=attempt)
            if attempt < CRASHES_ALLOWED:  # the lease is kept
                del self._running[task_id]
                self._schedule.give_back(task_id)
                return
            reason = f"tried {attempt} times and {message['reason']}"
            self._fail(task_id, reason, log=message["log"], crashes=attempt)
        elif event == "done":
            if message.get("published", True):
                self._tell("done", task_id, seconds=seconds)
            else:
                self._count["elsewhere"] += len(self._schedule.missing[task_id])
                self._tell("done", task_id, elsewhere=True)
            for result in self._schedule.missing[task_id]:
                self._schedule.made(result)
        elif event == "failed":
            self._fail(task_id, message["reason"], traceback=message["traceback"])
        elif event == "disk":
            self._disk = self._disk or message["reason"]
        else:
            self._tell("interrupted", task_id)
        self._end(task_id)

    def _end(self, task_id: str) -> None:
        """Release a task that this coordinator has brought to its outcome."""
        missing = self._schedule.missing[task_id]
        del self._running[task_id]
        self._over.add(task_id)
        with contextlib.suppress(StoreError):
            if self._sharing.leases.held(missing) and all(map(self._store.has, missing)):
                self._store.clear_attempts(task_id)
        self._sharing.leases.give_up(missing)

    def _fail(
        self, task_id: str, reason: str, *, traceback: str = "", log: str = "", crashes: int = 0
    ) -> None:
        """Record a failure of every result of a task that is not there."""
        task = self._schedule.tasks[task_id]
        failures = [
            Failure(result, task.kind, task.label, reason, traceback, log, crashes)
            for result in self._schedule.missing[task_id]
            if not self._store.has(result)
        ]
        try:
            for failure in failures:
                self._store.record_failure(failure)
        except StoreError as error:
            self._disk = self._disk or str(error)
        self._failed(task_id, failures, traceback=traceback)

    def _failed(self, task_id: str, failures: list[Failure], **fields: Any) -> None:
        """Emit a task's failures, free what needs its other results, and block what needs the failed ones."""
        self._failures += failures
        failed = {failure.id for failure in failures}
        made = [result for result in self._schedule.missing[task_id] if result not in failed]
        if made:
            self._tell("done", task_id, results=len(made))
        if failures:
            self._tell("failed", task_id, results=len(failed), reason=failures[0].reason, **fields)
        for result in made:
            self._schedule.made(result)
        for result in failed:
            for blocked in self._schedule.block(result):
                self._over.add(blocked)
                self._tell("blocked", blocked, because=task_id)

    def _tell(self, event: str, task_id: str, results: int | None = None, **fields: Any) -> None:
        task = self._schedule.tasks[task_id]
        about = len(self._schedule.missing[task_id]) if results is None else results
        self._count[event] += about
        event_fields = {
            "event": event,
            "task": task_id,
            "label": task.label,
            "kind": task.kind,
            "results": about,
        }
        self._emit({**event_fields, **fields})

    def _emit(self, event: Message) -> None:
        self._progress.update(event)
        self._watcher(event)


@dataclass
class _RunningTask:
    """A task that runs here: since when, in which worker and process, and the share that is done."""

    since: float
    worker: int | None = None
    where: str | None = None
    fraction: float | None = None

    def hear(self, message: Message) -> None:
        """Take note of a message about it."""
        if message["event"] == "start":
            self.worker, self.where = message.get("worker"), message.get("where")
        elif message["event"] == "progress":
            self.fraction = message.get("fraction", self.fraction)
