"""Tasks run in the test's own process: for tests of what a run leaves behind, not of the processes that made it.

A worker process takes about three seconds to import what it needs. Those that matter are started in tests/sweep and
in the tests that kill, interrupt or print from another process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharpscope.studies import load_study, make_plan, run_plan
from sharpscope.sweep import Store, Task
from sharpscope.sweep.executors.attempt import attempt
from sharpscope.sweep.executors.interface import Message


class InThisProcess:
    """Stands in for a `LocalExecutor`, whose arguments it takes."""

    workers = 1

    def __init__(self, store: Path, *_: object, **__: object) -> None:
        self._store = Store(store, create=False)
        self._messages: list[Message] = []
        self._stopping = False

    def room(self) -> int:
        return 1 - bool(self._messages)

    def submit(self, task: Task) -> None:
        attempt(self._store, task, threads=1, send=self._hear, should_stop=lambda: self._stopping)

    def _hear(self, message: Message) -> None:
        self._messages.append({**message, "worker": 1})

    def wait(self, timeout: float) -> list[Message]:
        messages, self._messages = self._messages, []
        return messages

    def ask_to_stop(self) -> None:
        self._stopping = True

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


def run_study(file: Path, store: Path) -> Store:
    """Run a study file into a store, which must have no failure."""
    made = Store(store)
    summary: Any = run_plan(make_plan(load_study(file)), made, executor=InThisProcess(store))
    assert (summary.failed, summary.blocked) == (0, 0)
    return made
