"""Tasks as jobs of a Slurm cluster: arrays of workers, each of which takes one task after another.

A job is a worker rather than a task, so that a sweep of thousands of short measures waits in the queue once and pays
its imports once. Jobs write results into the store by themselves and tell of them in files (`slurm_session`), so that
Slurm is asked how its jobs are only now and then, in one command for all.

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
from sharpscope.sweep.executors.interface import Message
from sharpscope.sweep.executors.message_log import Inbox, append
from sharpscope.sweep.executors.node import node_setup
from sharpscope.sweep.executors.resources import Resources
from sharpscope.sweep.executors.slurm.commands import Cluster, SlurmCommands, SlurmOptions
from sharpscope.sweep.executors.slurm.job import COMMAND
from sharpscope.sweep.executors.slurm.session import Session, clear_dead_sessions
from sharpscope.sweep.executors.worker_slots import Seat, SeatedExecutor
from sharpscope.sweep.scheduling.heartbeat import Heart
from sharpscope.sweep.scheduling.plan import Task
from sharpscope.sweep.store.disk_errors import told_as_store_error

WORKERS = 32
"""Jobs at a time unless told otherwise."""

ASK_EVERY = 30.0
"""Seconds between questions to Slurm; while a job is ending they come sooner."""

_ASK_SOON = 4.0
_EXPECTED = 60.0  # seconds after which Slurm must know a job that it has accepted
_HIRE_AGAIN = 60.0  # seconds after a refusal, of a busy controller or by a limit on jobs
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
_LAST_WORDS = ("bye", "broken")
_NOT_ITS_FAULT = ("NODE_FAIL", "PREEMPTED")
_ON_A_NODE = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")


@dataclass(eq=False)
class _SlurmSeat(Seat):
    """A job of an array: its name ``array_index``, what it tells, how often it has started, whether it is ending.

    ``known`` and ``suspect`` say that Slurm has been heard to know it, and to hold it for over.
    """

    job: str = ""
    inbox: Inbox = field(default_factory=lambda: Inbox(Path()))
    since: float = field(default_factory=time.monotonic)
    known: bool = False
    suspect: bool = False
    starts: int = 0
    ending: bool = False


class SlurmExecutor(SeatedExecutor[_SlurmSeat]):
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
        self._session = Session.begin(store, node_setup(store, mine.threads))
        self._heart = Heart(self._session.folder, self._session.coordinator)
        self._heart.__enter__()
        self._leaving: list[_SlurmSeat] = []
        self._hire_at = 0.0
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
                return self._told()
            time.sleep(max(0.0, min(until, self._read_at) - now))

    def _read(self) -> None:
        """Read what the jobs tell, less often the more there are."""
        if time.monotonic() < self._read_at:
            return
        self._read_at = time.monotonic() + min(5.0, max(0.2, 0.02 * len(self._seats)))
        with told_as_store_error(f"read the files of Slurm jobs in {self._session.folder}"):
            for seat in list(self._seats):
                for event in seat.inbox.new():
                    self._take(seat, event)

    def _take(self, seat: _SlurmSeat, event: Message) -> None:
        """Act on one event of a job."""
        what = event["event"]
        if what == "hello":
            seat.starts += 1
            seat.ending = False
            self._report(seat)
        elif what == "ending":
            seat.ready, seat.ending = False, True
            self._ask_at = min(self._ask_at, time.monotonic() + _ASK_SOON)
        elif what == "broken" and not seat.starts:
            self._miss(seat, event["reason"])
        elif what in _LAST_WORDS:
            self._part(seat)
        else:
            self._hear(seat, event)

    def _part(self, seat: _SlurmSeat) -> None:
        """Strike off a job that has ended in good order; the task it has not done goes to another."""
        if seat not in self._seats:
            return
        self._seats.remove(seat)
        if seat.task is not None and self._stopping:
            self._messages.append({"event": "interrupted", "task": seat.task.id})
        elif seat.task is not None:
            self._waiting.appendleft(seat.task)

    def _look(self) -> None:
        """Ask Slurm how the jobs are, and strike off those that are over."""
        soon = any(seat.ending for seat in self._seats)
        self._ask_at = time.monotonic() + (min(_ASK_SOON, self._ask_every) if soon else self._ask_every)
        starts = {seat: seat.starts for seat in self._seats}
        states = self._cluster.states() if self._seats else {}
        if states is None:  # no answer tells nothing
            return
        self._read_at = 0.0
        self._read()  # what a job has told before it ended
        for seat in list(self._seats):
            state = states.get(seat.job)
            if state is None and not seat.known and time.monotonic() - seat.since < _EXPECTED:
                continue
            if state is not None and state not in _OVER:
                seat.known, seat.suspect = True, False
                # one that has said hello since Slurm was asked is not in the queue any more
                left = (seat.ready or seat.ending) and state not in _ON_A_NODE
                if left and seat.starts == starts[seat]:
                    self._queued_again(seat)
            elif not seat.suspect:  # its last words may still be on their way
                seat.suspect = True
                self._ask_at = min(self._ask_at, time.monotonic() + _ASK_SOON)
            else:
                self._over(seat, state or "COMPLETED")

    def _queued_again(self, seat: _SlurmSeat) -> None:
        """Take note that a job waits in the queue once more, with its task."""
        seat.ready, seat.ending = False, False
        if self._stopping and seat.task is not None:
            self._ask(seat)

    def _over(self, seat: _SlurmSeat, state: str) -> None:
        """Strike off a job that Slurm says is over."""
        if not seat.starts:
            self._miss(
                seat, f"Slurm job {seat.job} {_OVER[state]}: {self._printed(seat) or 'it printed nothing'}"
            )
        elif state in _NOT_ITS_FAULT or seat.task is None or self._stopping:
            self._part(seat)
        else:
            self._lose(seat, f"its Slurm job {seat.job} {_OVER[state]}", self._printed(seat))

    def _printed(self, seat: _SlurmSeat) -> str:
        """Return the last lines that a job left in its log files."""
        files = sorted(self._session.logs.glob(f"**/{seat.job}_*log.*"))
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
        return "\n".join("\n".join(texts).strip().splitlines()[-_LOG_LINES:])

    def _hire(self, numbers: range) -> list[_SlurmSeat]:
        if time.monotonic() < self._hire_at:
            return []
        with told_as_store_error(f"write to {self._session.folder}"):
            self._session.open_mailboxes(numbers)
        words = [sys.executable, "-P", "-c", COMMAND, str(self._session.folder), str(numbers.start)]
        try:
            array = self._cluster.submit(shlex.join(words), len(numbers), self._session.logs)
        except InputError:
            if not self._seats:
                raise
            self._hire_at = time.monotonic() + _HIRE_AGAIN  # the jobs that there are go on meanwhile
            return []
        return [
            _SlurmSeat(number, job=f"{array}_{index}", inbox=Inbox(self._session.events(number)))
            for index, number in enumerate(numbers)
        ]

    def _give(self, seat: _SlurmSeat, task: Task) -> None:
        self._order(seat, do="run", task=dataclasses.asdict(task))

    def _ask(self, seat: _SlurmSeat) -> None:
        if seat.ready:
            self._order(seat, do="stop")
        elif not seat.ending:  # in the queue once more, with what it has saved
            self._cluster.cancel([seat.job])
            self._part(seat)

    def _dismiss(self, seat: _SlurmSeat) -> None:
        self._leaving.append(seat)
        self._order(seat, do="exit")

    def _order(self, seat: _SlurmSeat, **order: object) -> None:
        with told_as_store_error(f"write to {self._session.folder}"):
            append(self._session.orders(seat.number), order)

    def kill(self) -> None:
        """End every job now."""
        self._cluster.cancel([seat.job for seat in (*self._seats, *self._leaving)], at_once=True)
        self._seats.clear()
        self._leaving.clear()

    def close(self) -> None:
        """Let idle jobs end, cancel the others, and remove the files through which they were told."""
        with contextlib.suppress(OSError, StoreError):
            idle = [seat for seat in self._seats if seat.ready and seat.task is None]
            for seat in idle:
                self._dismiss(seat)
            self._cluster.cancel([seat.job for seat in self._seats if seat not in idle], at_once=True)
            patience = time.monotonic() + _LEAVE
            while self._leaving and time.monotonic() < patience:
                self._leaving = [seat for seat in self._leaving if not _left(seat)]
                time.sleep(0.05)
        self._cluster.cancel([seat.job for seat in self._leaving], at_once=True)
        self._seats.clear()
        self._leaving.clear()
        self._heart.__exit__()
        self._session.end()


def _left(seat: _SlurmSeat) -> bool:
    """Return whether a job that was told to go has said that it does."""
    return any(event["event"] in _LAST_WORDS for event in seat.inbox.new())
