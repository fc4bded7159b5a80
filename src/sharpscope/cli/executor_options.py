"""The options of ``sharpscope run`` that say where runs are executed, checked together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharpscope.errors import InputError

if TYPE_CHECKING:
    from sharpscope.sweep import Executor
    from sharpscope.sweep.executors.interface import Resources

EXECUTORS = ("local", "ray", "slurm")


@dataclass(frozen=True)
class ExecutorOptions:
    """The engine, how many runs at a time and what each of them gets; see the options of the same names.

    Raises `InputError` for an unknown executor or device, and for an option that the executor has no use for.
    """

    executor: str = "local"
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    gpus: float | None = None
    memory: float | None = None
    ray_address: str | None = None
    time: str | None = None
    partition: str | None = None
    slurm: tuple[str, ...] = ()
    ranks: int = 1

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise InputError(
                f"--executor must be {', '.join(EXECUTORS[:-1])} or {EXECUTORS[-1]}, received {self.executor!r}; "
                "choose one"
            )
        if self.device.split(":")[0] not in ("cpu", "cuda"):
            raise InputError(f"--device must be cpu or cuda, received {self.device!r}; choose one")
        if self.executor != "local" and ":" in self.device:
            raise InputError(
                f"--device {self.device} names a GPU of this machine and --executor {self.executor} chooses GPUs by "
                "itself; use --device cuda"
            )
        if self.gpus and self.device == "cpu":
            raise InputError(
                f"--gpus is {self.gpus:g} and --device cpu uses none; add --device cuda or leave it out"
            )
        meant_for = {
            "--memory": (self.memory, ("ray", "slurm")),
            "--time": (self.time, ("slurm",)),
            "--partition": (self.partition, ("slurm",)),
            "--slurm": (self.slurm or None, ("slurm",)),
        }
        for option, (value, executors) in meant_for.items():
            if value is not None and self.executor not in executors:
                raise InputError(
                    f"{option} has no meaning to --executor {self.executor}; leave it out, or use --executor "
                    + " or ".join(executors)
                )

    def make(self, store: Path) -> Executor:
        """Return the executor that publishes into the store at this folder; `InputError` where it cannot work."""
        if self.executor == "ray":
            from sharpscope.sweep.executors.ray import RayExecutor

            return RayExecutor(store, self._resources(), self.workers, self.ray_address)
        if self.executor == "slurm":
            from sharpscope.sweep.executors.slurm.commands import SlurmOptions
            from sharpscope.sweep.executors.slurm.executor import SlurmExecutor

            options = SlurmOptions(self.time, self.partition, _pairs(self.slurm))
            return SlurmExecutor(store, self._resources(), self.workers, options)
        return self._local(store)

    def _resources(self) -> Resources:
        from sharpscope.sweep.executors.interface import Resources

        gpus = 1.0 if self.gpus is None and self.device == "cuda" else self.gpus
        return Resources(self.threads, gpus or 0.0, self.memory, self.ranks)

    def _local(self, store: Path) -> Executor:
        from sharpscope.sweep import LocalExecutor, usable_cores
        from sharpscope.sweep.executors.worker_environment import visible_devices

        if self.device == "cpu":
            return LocalExecutor(store, self.workers, self.threads, ranks=self.ranks)
        import torch

        if not torch.cuda.is_available():
            raise InputError(
                f"--device {self.device} needs a CUDA device and this machine has none; use --device cpu"
            )
        devices = visible_devices(torch.cuda.device_count()) if self.device == "cuda" else ()
        if self.device == "cuda" and len(devices) < self.ranks:
            raise InputError(
                f"--ranks {self.ranks} needs a GPU for each rank and this machine has {len(devices)}; lower it"
            )
        workers = self.workers
        if workers is None and self.gpus:
            on_gpus = self._resources().on_gpus(max(1, len(devices)))
            workers = max(1, min(on_gpus, usable_cores() // (self.threads * self.ranks)))
        dealt = devices if len(devices) > 1 else ()
        return LocalExecutor(store, workers, self.threads, devices=dealt, ranks=self.ranks)


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    """Return the table of ``KEY=VALUE`` texts; a lone ``KEY`` is a switch, with an empty value."""
    pairs = {}
    for text in given:
        key, _, value = text.partition("=")
        key = key.strip().lstrip("-").replace("_", "-")
        if not key:
            raise InputError(
                f"--slurm takes KEY=VALUE, an option of sbatch, and received {text!r}; write account=team"
            )
        pairs[key] = value
    return pairs
