"""Tasks as jobs of a Slurm cluster: arrays of workers, each of which takes one task after another.

A job is a worker rather than a task, so that a sweep of thousands of short measures waits in the queue once and pays
its imports once. Jobs write results into the store by themselves and report in files (see `session`), so that Slurm
is asked for the states of its jobs seldom, in one command for all.

A job that Slurm ends to make room, or that nears its time limit, is queued again and goes on with its task: that
costs the task none of its attempts. A job that is cancelled or dies has lost its task.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from sharpscope.errors import InputError, StoreError
from sharpscope.sweep.executors.interface import Message, Resources
from sharpscope.sweep.executors.node import MessageLog, append, node_setup
from sharpscope.sweep.executors.slurm.commands import Cluster, SlurmCommands, SlurmOptions
from sharpscope.sweep.executors.slurm.job import COMMAND
from sharpscope.sweep.executors.slurm.session import Session, clear_dead_sessions
from sharpscope.sweep.executors.worker_slots import SlotExecutor, WorkerSlot
from sharpscope.sweep.store.disk_errors import as_store_error
from sharpscope.sweep.store.liveness import Heartbeat
from sharpscope.sweep.task import Task

WORKERS = 32
"""Jobs at a time unless told otherwise."""

ASK_EVERY = 30.0
"""Seconds between questions to Slurm; while a job is ending they come sooner."""

_ASK_SOON = 4.0
_EXPECTED = 60.0  # seconds after which Slurm must know a job that it has accepted
_REQUEST_AGAIN = 60.0  # seconds after a refusal, of a busy controller or by a limit on jobs
_LEAVE = 10.0  # seconds that idle jobs get to end by themselves
_LOG_LINES = 20

_OVER = {
    "BOOT_FAIL": "could not be started on its node",
    "CANCELLED": "was cancelled",
    "COMPLETED": "ended early",
    "DEADLINE": "reached its deadline",
    "FAILED": "failed",
    "NODE_FAIL": "was lost with its node",
    "OUT_OF_MEMORY": "ran out of memory; give it more with --memory",
    "PREEMPTED": "was ended to make room",
    "REVOKED": "was revoked",
    "TIMEOUT": "reached its time limit before it could save; give it more with --time",
}
_FINAL_EVENTS = ("bye", "broken")
_NOT_ITS_FAULT = ("NODE_FAIL", "PREEMPTED")
_ON_A_NODE = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")


@dataclass(eq=False)
class _SlurmSlot(WorkerSlot):
    """A job of an array: its name ``array_index``, what it tells, how often it has started, whether it is ending.

    ``known`` and ``suspect`` say that Slurm has been heard to know it, and to hold it for over.
    """

    job: str = ""
    events: MessageLog = field(default_factory=lambda: MessageLog(Path()))
    since: float = field(default_factory=time.monotonic)
    known: bool = False
    suspect: bool = False
    starts: int = 0
    ending: bool = False


class SlurmExecutor(SlotExecutor[_SlurmSlot]):
    """Workers in the jobs of a Slurm cluster, queued as arrays when tasks need them.

    Args:
        store: the folder of the store the results go to, on a file system that this machine and every node see.
        resources: what each job asks for.
        workers: how many jobs at a time.
        options: what else a job asks of Slurm.
        cluster: what talks to Slurm; by default its commands.
        ask_every: seconds between questions to Slurm.

    Raises `InputError` where Slurm's commands or submitit are missing, and `StoreError` where the store cannot be
    written.

    """

    def __init__(
        self,
        store: Path,
        resources: Resources | None = None,
        workers: int | None = None,
        options: SlurmOptions | None = None,
        *,
        cluster: Cluster | None = None,
        ask_every: float = ASK_EVERY,
    ) -> None:
        super().__init__(WORKERS if workers is None else workers)
        mine = resources or Resources()
        self._cluster = cluster or SlurmCommands(mine, options or SlurmOptions())
        clear_dead_sessions(store)
        self._session = Session.begin(store, node_setup(store, mine.threads, mine.ranks))
        self._heartbeat = Heartbeat(self._session.folder, self._session.coordinator)
        self._heartbeat.__enter__()
        self._leaving: list[_SlurmSlot] = []
        self._request_at = 0.0
        self._ask_every = ask_every
        self._ask_at = time.monotonic() + ask_every
        self._read_at = 0.0

    def wait(self, timeout: float) -> list[Message]:
        """Return the messages that have come, waiting up to `timeout` seconds for the first."""
        until = time.monotonic() + timeout
        while True:
            self._read()
            if not self._stopping:
                self._place()
            if time.monotonic() >= self._ask_at:
                self._look()
            now = time.monotonic()
            if self._messages or now >= until:
                return self._take_messages()
            time.sleep(max(0.0, min(until, self._read_at) - now))

    def _read(self) -> None:
        """Read the jobs' events, less often the more jobs there are."""
        if time.monotonic() < self._read_at:
            return
        self._read_at = time.monotonic() + min(5.0, max(0.2, 0.02 * len(self._slots)))
        with as_store_error(f"read the files of Slurm jobs in {self._session.folder}"):
            for slot in list(self._slots):
                for event in slot.events.new():
                    self._take(slot, event)

    def _take(self, slot: _SlurmSlot, event: Message) -> None:
        """Act on one event of a job."""
        what = event["event"]
        if what == "hello":
            slot.starts += 1
            slot.ending = False
            self._report(slot)
        elif what == "ending":
            slot.ready, slot.ending = False, True
            self._ask_at = min(self._ask_at, time.monotonic() + _ASK_SOON)
        elif what == "broken" and not slot.starts:
            self._start_failed(slot, event["reason"])
        elif what in _FINAL_EVENTS:
            self._release(slot)
        else:
            self._hear(slot, event)

    def _release(self, slot: _SlurmSlot) -> None:
        """Remove the slot of a job that has ended in good order; its unfinished task goes to another slot."""
        if slot not in self._slots:
            return
        self._slots.remove(slot)
        if slot.task is not None and self._stopping:
            self._messages.append({"event": "interrupted", "task": slot.task.id})
        elif slot.task is not None:
            self._waiting.appendleft(slot.task)

    def _look(self) -> None:
        """Ask Slurm for the states of the jobs, and remove the slots of those that are over."""
        soon = any(slot.ending for slot in self._slots)
        self._ask_at = time.monotonic() + (min(_ASK_SOON, self._ask_every) if soon else self._ask_every)
        starts = {slot: slot.starts for slot in self._slots}
        states = self._cluster.states() if self._slots else {}
        if states is None:  # no answer tells nothing
            return
        self._read_at = 0.0
        self._read()  # what a job has told before it ended
        for slot in list(self._slots):
            state = states.get(slot.job)
            if state is None and not slot.known and time.monotonic() - slot.since < _EXPECTED:
                continue
            if state is not None and state not in _OVER:
                slot.known, slot.suspect = True, False
                # one that has said hello since Slurm was asked is not in the queue any more
                left = (slot.ready or slot.ending) and state not in _ON_A_NODE
                if left and slot.starts == starts[slot]:
                    self._queued_again(slot)
            elif not slot.suspect:  # its last events may still be on their way
                slot.suspect = True
                self._ask_at = min(self._ask_at, time.monotonic() + _ASK_SOON)
            else:
                self._job_ended(slot, state or "COMPLETED")

    def _queued_again(self, slot: _SlurmSlot) -> None:
        """Mark a job as waiting in the queue again, with its task."""
        slot.ready, slot.ending = False, False
        if self._stopping and slot.task is not None:
            self._ask(slot)

    def _job_ended(self, slot: _SlurmSlot, state: str) -> None:
        """Remove the slot of a job that Slurm says is over."""
        if not slot.starts:
            self._start_failed(
                slot, f"Slurm job {slot.job} {_OVER[state]}: {self._printed(slot) or 'it printed nothing'}"
            )
        elif state in _NOT_ITS_FAULT or slot.task is None or self._stopping:
            self._release(slot)
        else:
            self._lost(slot, f"its Slurm job {slot.job} {_OVER[state]}", self._printed(slot))

    def _printed(self, slot: _SlurmSlot) -> str:
        """Return the last lines that a job left in its log files."""
        files = sorted(self._session.logs.glob(f"**/{slot.job}_*log.*"))
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
        return "\n".join("\n".join(texts).strip().splitlines()[-_LOG_LINES:])

    def _request(self, numbers: range) -> list[_SlurmSlot]:
        if time.monotonic() < self._request_at:
            return []
        with as_store_error(f"write to {self._session.folder}"):
            self._session.create_message_logs(numbers)
        words = [sys.executable, "-P", "-c", COMMAND, str(self._session.folder), str(numbers.start)]
        try:
            array = self._cluster.submit(shlex.join(words), len(numbers), self._session.logs)
        except InputError:
            if not self._slots:
                raise
            self._request_at = time.monotonic() + _REQUEST_AGAIN  # the jobs that there are go on meanwhile
            return []
        return [
            _SlurmSlot(number, job=f"{array}_{index}", events=MessageLog(self._session.events(number)))
            for index, number in enumerate(numbers)
        ]

    def _give(self, slot: _SlurmSlot, task: Task) -> None:
        self._order(slot, do="run", task=dataclasses.asdict(task))

    def _ask(self, slot: _SlurmSlot) -> None:
        if slot.ready:
            self._order(slot, do="stop")
        elif not slot.ending:  # in the queue once more, with what it has saved
            self._cluster.cancel([slot.job])
            self._release(slot)

    def _end_idle(self, slot: _SlurmSlot) -> None:
        self._leaving.append(slot)
        self._order(slot, do="exit")

    def _order(self, slot: _SlurmSlot, **order: object) -> None:
        with as_store_error(f"write to {self._session.folder}"):
            append(self._session.orders(slot.number), order)

    def kill(self) -> None:
        """End every job now."""
        self._cluster.cancel([slot.job for slot in (*self._slots, *self._leaving)], at_once=True)
        self._slots.clear()
        self._leaving.clear()

    def close(self) -> None:
        """Let idle jobs end, cancel the others, and remove the session's folder."""
        with contextlib.suppress(OSError, StoreError):
            idle = [slot for slot in self._slots if slot.ready and slot.task is None]
            for slot in idle:
                self._end_idle(slot)
            self._cluster.cancel([slot.job for slot in self._slots if slot not in idle], at_once=True)
            patience = time.monotonic() + _LEAVE
            while self._leaving and time.monotonic() < patience:
                self._leaving = [slot for slot in self._leaving if not _left(slot)]
                time.sleep(0.05)
        self._cluster.cancel([slot.job for slot in self._leaving], at_once=True)
        self._slots.clear()
        self._leaving.clear()
        self._heartbeat.__exit__()
        self._session.end()


def _left(slot: _SlurmSlot) -> bool:
    """Return whether a job that was told to end has reported its end."""
    return any(event["event"] in _FINAL_EVENTS for event in slot.events.new())
