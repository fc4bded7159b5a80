"""Tasks on workers that come and go: the bookkeeping that executors on other machines share."""

from __future__ import annotations

import abc
import collections
import time
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sharpscope.errors import InputError, SharpscopeError
from sharpscope.sweep.executors.interface import Message
from sharpscope.sweep.scheduling.plan import Task

ENDS = ("done", "interrupted", "failed", "disk", "lost")
"""The messages after which a worker has nothing to do."""

_IDLE = 30.0  # seconds after which a worker that nothing waits for is given back to the cluster
_LOG_LINES = 40
_FAILED_STARTS = 3  # in a row, after which it is no accident


@dataclass(eq=False)
class Seat:
    """A worker that has been asked for: ``ready`` once it has reported, with a task or without one."""

    number: int
    ready: bool = False
    task: Task | None = None
    idle_since: float = field(default_factory=time.monotonic)
    log: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=_LOG_LINES))


S = TypeVar("S", bound=Seat)


class SeatedExecutor(abc.ABC, Generic[S]):
    """Hands tasks to seats, which it asks an engine for as tasks need them and gives back when they idle.

    A task waits here until a seat is ready for it, so that it never waits for one that the engine cannot provide
    while another falls idle.

    Raises `InputError` for fewer than one worker.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise InputError(f"workers is {workers} and a sweep needs at least 1; give a positive number")
        self.workers = workers
        self._seats: list[S] = []
        self._waiting: collections.deque[Task] = collections.deque()
        self._messages: list[Message] = []
        self._stopping = False
        self._hired = 0
        self._failed_starts = 0

    @abc.abstractmethod
    def _hire(self, numbers: range) -> list[S]:
        """Ask the engine for a seat of each of these numbers."""

    @abc.abstractmethod
    def _give(self, seat: S, task: Task) -> None:
        """Let a ready seat start a task."""

    @abc.abstractmethod
    def _ask(self, seat: S) -> None:
        """Ask the task at a seat to save and stop."""

    @abc.abstractmethod
    def _dismiss(self, seat: S) -> None:
        """Give an idle seat back."""

    def room(self) -> int:
        """Return how many more tasks could start now."""
        return self.workers - len(self._waiting) - sum(seat.task is not None for seat in self._seats)

    def submit(self, task: Task) -> None:
        """Start a task as soon as a seat is ready for it."""
        self._waiting.append(task)

    def ask_to_stop(self) -> None:
        """Ask every running task to save and stop; those that have not started are over at once."""
        self._stopping = True
        self._messages += [{"event": "interrupted", "task": task.id} for task in self._waiting]
        self._waiting.clear()
        for seat in list(self._seats):
            if seat.task is not None:
                self._ask(seat)

    def _place(self) -> None:
        """Give waiting tasks to seats that are free, ask for seats that lack, give back those that idle."""
        now = time.monotonic()
        for seat in list(self._seats):
            if not seat.ready or seat.task is not None:
                continue
            if self._waiting:
                seat.task = self._waiting.popleft()
                self._give(seat, seat.task)
            elif now - seat.idle_since > _IDLE:
                self._seats.remove(seat)
                self._dismiss(seat)
        coming = sum(not seat.ready and seat.task is None for seat in self._seats)
        lacking = min(len(self._waiting) - coming, self.workers - len(self._seats))
        if lacking > 0:
            self._seats += self._hire(range(self._hired + 1, self._hired + lacking + 1))
            self._hired += lacking

    def _hear(self, seat: S, message: Message) -> None:
        """Take a message of the worker at a seat; what comes too late to belong to its task is dropped."""
        if seat.task is None or message["task"] != seat.task.id:
            return
        if message["event"] == "log":
            seat.log.append(message["text"])
        if message["event"] in ENDS:
            seat.task, seat.idle_since = None, time.monotonic()
            seat.log.clear()
        self._messages.append({**message, "worker": seat.number})

    def _lose(self, seat: S, reason: str, log: str = "") -> None:
        """Strike a seat off, telling that its task is lost."""
        self._seats.remove(seat)
        if seat.task is not None:
            lost = {"event": "lost", "task": seat.task.id, "worker": seat.number, "reason": reason}
            self._messages.append({**lost, "log": "\n".join([*seat.log, log]).strip()})

    def _report(self, seat: S) -> None:
        """Take note that a seat is ready."""
        seat.ready, seat.idle_since, self._failed_starts = True, time.monotonic(), 0

    def _miss(self, seat: S, reason: str) -> None:
        """Strike a seat off that never reported; `SharpscopeError` when that is no accident."""
        self._seats.remove(seat)
        self._failed_starts += 1
        if self._failed_starts >= _FAILED_STARTS:
            raise SharpscopeError(
                f"workers cannot start ({reason}); mend that and run the same command again"
            )

    def _told(self) -> list[Message]:
        """Return the messages gathered so far, and forget them."""
        messages, self._messages = self._messages, []
        return messages
