"""What the coordinator asks of a place where tasks run, what it hears back, and what a worker may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from sharpscope.errors import InputError
from sharpscope.sweep.task import Task

Message: TypeAlias = dict[str, Any]
"""A table about a task: ``event`` says what happened, ``task`` is the task's id.

``start`` (``worker``, ``resumed``, ``where``: the tag ``host-pid-start`` of its process), ``progress`` (what the task
reported) and ``log`` (``text``, a line it printed) come while it runs. One of these ends it: ``done`` (``published``:
whether its result, not an earlier one, is in the store), ``interrupted``, ``failed`` (``reason``, ``traceback``),
``disk`` (``reason``: the store cannot be written, so nothing else can succeed) and ``lost`` (``reason``, ``log``: its
worker died, and another attempt may do).
"""


class Executor(Protocol):
    """A place where tasks run: it starts them, returns their messages and ends them.

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
        """Return the messages that have come, as soon as there is one; none after `timeout` seconds."""

    def ask_to_stop(self) -> None:
        """Ask every running task to save and stop; `wait` still returns their last messages."""

    def kill(self) -> None:
        """End everything now; no message follows."""

    def close(self) -> None:
        """End whatever this executor has started."""


@dataclass(frozen=True)
class Resources:
    """What is set aside for each worker, which runs one task at a time.

    Fields:
        threads: threads of each rank's computations, and processor cores.
        gpus: share of a GPU for each rank, from 0 to 1: at ``0.25`` four workers share one.
        memory: main memory in GB (10⁹ bytes); None leaves it to the engine's default.
        ranks: processes that compute a task together, on one node.

    Raises `InputError` for fewer than one thread or rank, a share outside [0, 1], a share of a GPU for several ranks
    and memory that is not positive.
    """

    threads: int = 1
    gpus: float = 0.0
    memory: float | None = None
    ranks: int = 1

    def __post_init__(self) -> None:
        for name in ("threads", "ranks"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)} and a worker needs at least 1; give a positive number"
                )
        if self.ranks > 1 and self.gpus not in (0.0, 1.0):
            raise InputError(
                f"gpus is {self.gpus:g} and each of {self.ranks} ranks needs a GPU of its own; give 1 or leave it out"
            )
        if not 0.0 <= self.gpus <= 1.0:
            raise InputError(
                f"gpus is {self.gpus:g} and a run uses at most one GPU; give a share from 0 to 1"
            )
        if self.memory is not None and not self.memory > 0.0:
            raise InputError(f"memory is {self.memory:g} GB and must be positive; give a number of GB")

    @property
    def cores(self) -> int:
        """Processor cores of a worker, its ranks together."""
        return self.threads * self.ranks

    def on_gpus(self, gpus: float) -> int:
        """Return how many workers so many GPUs hold: none is spread over two of them.

        >>> Resources(gpus=0.3).on_gpus(2)
        6
        >>> Resources(gpus=1).on_gpus(0.5)
        0
        """
        if self.ranks > 1:
            return int(gpus) // self.ranks
        whole = int(gpus)
        return whole * int(1.0 / self.gpus + 1e-9) + int((gpus - whole) / self.gpus + 1e-9)
