"""Tasks on workers that come and go: what the executors of other machines have in common."""

from __future__ import annotations

import abc
import collections
import time
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sharpscope.errors import InputError, SharpscopeError
from sharpscope.sweep.executors.interface import Message
from sharpscope.sweep.task import Task

ENDS = ("done", "interrupted", "failed", "disk", "lost")
"""The messages after which a worker has nothing to do."""

_IDLE = 30.0  # seconds after which a worker that nothing waits for is given back to the cluster
_LOG_LINES = 40
_FAILED_STARTS = 3  # in a row, after which starting is given up


@dataclass(eq=False)
class WorkerSlot:
    """A worker that has been requested: ``ready`` once it has reported, with a task or without one."""

    number: int
    ready: bool = False
    task: Task | None = None
    idle_since: float = field(default_factory=time.monotonic)
    log: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=_LOG_LINES))


S = TypeVar("S", bound=WorkerSlot)


class SlotExecutor(abc.ABC, Generic[S]):
    """Runs tasks in worker slots, which it requests from an engine as tasks need them and releases when they idle.

    A task waits here until any slot is ready for it. Tied to a slot that the engine cannot provide, it would wait
    while another slot idles.

    Raises `InputError` for fewer than one worker.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise InputError(f"workers is {workers} and a sweep needs at least 1; give a positive number")
        self.workers = workers
        self._slots: list[S] = []
        self._waiting: collections.deque[Task] = collections.deque()
        self._messages: list[Message] = []
        self._stopping = False
        self._requested = 0
        self._failed_starts = 0

    @abc.abstractmethod
    def _request(self, numbers: range) -> list[S]:
        """Request a slot of each of these numbers from the engine."""

    @abc.abstractmethod
    def _give(self, slot: S, task: Task) -> None:
        """Let a ready slot start a task."""

    @abc.abstractmethod
    def _ask(self, slot: S) -> None:
        """Ask the task in a slot to save and stop."""

    @abc.abstractmethod
    def _end_idle(self, slot: S) -> None:
        """End the worker of an idle slot that has been released."""

    def room(self) -> int:
        """Return how many more tasks could start now."""
        return self.workers - len(self._waiting) - sum(slot.task is not None for slot in self._slots)

    def submit(self, task: Task) -> None:
        """Start a task as soon as a slot is ready for it."""
        self._waiting.append(task)

    def ask_to_stop(self) -> None:
        """Ask every running task to save and stop; those that have not started are over at once."""
        self._stopping = True
        self._messages += [{"event": "interrupted", "task": task.id} for task in self._waiting]
        self._waiting.clear()
        for slot in list(self._slots):
            if slot.task is not None:
                self._ask(slot)

    def _place(self) -> None:
        """Start waiting tasks in free slots, request the slots that are lacking, release those that idle."""
        now = time.monotonic()
        for slot in list(self._slots):
            if not slot.ready or slot.task is not None:
                continue
            if self._waiting:
                slot.task = self._waiting.popleft()
                self._give(slot, slot.task)
            elif now - slot.idle_since > _IDLE:
                self._slots.remove(slot)
                self._end_idle(slot)
        coming = sum(not slot.ready and slot.task is None for slot in self._slots)
        lacking = min(len(self._waiting) - coming, self.workers - len(self._slots))
        if lacking > 0:
            self._slots += self._request(range(self._requested + 1, self._requested + lacking + 1))
            self._requested += lacking

    def _hear(self, slot: S, message: Message) -> None:
        """Take a message of a slot's worker; what comes too late to belong to its task is dropped."""
        if slot.task is None or message["task"] != slot.task.id:
            return
        if message["event"] == "log":
            slot.log.append(message["text"])
        if message["event"] in ENDS:
            slot.task, slot.idle_since = None, time.monotonic()
            slot.log.clear()
        self._messages.append({**message, "worker": slot.number})

    def _lost(self, slot: S, reason: str, log: str = "") -> None:
        """Remove a slot whose worker is gone, and report its task as lost."""
        self._slots.remove(slot)
        if slot.task is not None:
            lost = {"event": "lost", "task": slot.task.id, "worker": slot.number, "reason": reason}
            self._messages.append({**lost, "log": "\n".join([*slot.log, log]).strip()})

    def _report(self, slot: S) -> None:
        """Mark a slot as ready."""
        slot.ready, slot.idle_since, self._failed_starts = True, time.monotonic(), 0

    def _start_failed(self, slot: S, reason: str) -> None:
        """Remove a slot whose worker never reported; `SharpscopeError` when several in a row have not."""
        self._slots.remove(slot)
        self._failed_starts += 1
        if self._failed_starts >= _FAILED_STARTS:
            raise SharpscopeError(
                f"workers cannot start ({reason}); mend that and run the same command again"
            )

    def _take_messages(self) -> list[Message]:
        """Return the messages gathered so far, each of them once."""
        messages, self._messages = self._messages, []
        return messages
