"""What the coordinator asks of a place where tasks run, and what it hears back."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from sharpscope.sweep.scheduling.plan import Task

Message: TypeAlias = dict[str, Any]
"""What became of a task, by the key ``event``; every message has the key ``task``, its id.

``start`` (``worker``, ``resumed``, ``where``: the tag ``host-pid-start`` of its process), ``progress`` (what the task
reported) and ``log`` (``text``, a line it printed) come while it runs. One of these ends it: ``done`` (``published``:
whether its result, not an earlier one, is in the store), ``interrupted``, ``failed`` (``reason``, ``traceback``),
``disk`` (``reason``: the store cannot be written, so nothing else can succeed) and ``lost`` (``reason``, ``log``: its
worker died, and another attempt may do).
"""


class Executor(Protocol):
    """A place where tasks run: what needs knowing to start them, hear of them and end them.

    An executor publishes results into the store itself and decides nothing: order, dependencies, new attempts
    and failures are the coordinator's.
    """

    workers: int
    """How many tasks run at a time."""

    def room(self) -> int:
        """Return how many more tasks could start now."""

    def submit(self, task: Task) -> None:
        """Start a task; only when there is `room`."""

    def wait(self, timeout: float) -> list[Message]:
        """Return what has been heard, as soon as there is something, or nothing after `timeout` seconds."""

    def ask_to_stop(self) -> None:
        """Ask every running task to save and stop; their last messages still come."""

    def kill(self) -> None:
        """End everything now; no message need come of it."""

    def close(self) -> None:
        """Release what is held; nothing that this executor started is left running."""
