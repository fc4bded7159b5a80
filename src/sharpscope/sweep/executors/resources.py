"""What one run may take of the machine it runs on."""

from __future__ import annotations

from dataclasses import dataclass

from sharpscope.errors import InputError


@dataclass(frozen=True)
class Resources:
    """What is set aside for each worker, which runs one task at a time.

    Fields:
        threads: threads of its computations, and processor cores.
        gpus: share of a GPU, from 0 to 1: at ``0.25`` four workers share one.
        memory: main memory in GB (10⁹ bytes); None leaves it to the engine's default.

    Raises `InputError` for fewer than one thread, a share outside [0, 1] and memory that is not positive.
    """

    threads: int = 1
    gpus: float = 0.0
    memory: float | None = None

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(
                f"threads is {self.threads} and a worker needs at least 1; give a positive number"
            )
        if not 0.0 <= self.gpus <= 1.0:
            raise InputError(
                f"gpus is {self.gpus:g} and a run uses at most one GPU; give a share from 0 to 1"
            )
        if self.memory is not None and not self.memory > 0.0:
            raise InputError(f"memory is {self.memory:g} GB and must be positive; give a number of GB")

    def on_gpus(self, gpus: float) -> int:
        """Return how many workers so many GPUs hold: none is spread over two of them.

        >>> Resources(gpus=0.3).on_gpus(2)
        6
        >>> Resources(gpus=1).on_gpus(0.5)
        0
        """
        whole = int(gpus)
        return whole * int(1.0 / self.gpus + 1e-9) + int((gpus - whole) / self.gpus + 1e-9)
