"""The five commands of Slurm: sbatch through submitit, which writes the job script, and squeue, scancel, scontrol."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sharpscope.errors import InputError
from sharpscope.sweep.executors.interface import Resources
from sharpscope.sweep.executors.local.executor import interrupts_held_back

WARNING = 90
"""Seconds before its time limit at which a job is told to save and stop."""

_ONE_WORKER = {"nodes", "ntasks", "ntasks-per-node", "ntasks-per-core", "ntasks-per-socket", "array"}
"""Options of sbatch that would start the worker's command several times, which then do the same work."""

_PATIENCE = 60.0  # seconds that a command may take; Slurm's own are patient with a busy controller
_AT_ONCE = 200  # jobs named in one command line


@dataclass(frozen=True)
class SlurmOptions:
    """What a job asks of Slurm beside its resources.

    Fields:
        time: limit of one job, in minutes or as ``D-HH:MM:SS``; None leaves it to the partition.
        partition: None leaves it to Slurm.
        extra: further options of sbatch, name -> value; an empty value makes a switch.

    Raises `InputError` for a time that Slurm would not understand, and for an option by which a job would start more
    than one worker.
    """

    time: str | None = None
    partition: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.warning()
        for name in _ONE_WORKER & self.extra.keys():
            if name == "array" or self.extra[name] != "1":
                raise InputError(
                    f"a job is one worker on one node, its ranks included, received {name}={self.extra[name]}; leave "
                    "it out, and use --workers for the number of jobs and --ranks for processes of one job"
                )

    def warning(self) -> int:
        """Return how many seconds before its limit a job saves and stops, to be queued again.

        >>> SlurmOptions().warning(), SlurmOptions("2-12").warning(), SlurmOptions("4").warning()
        (90, 90, 60)
        """
        return WARNING if self.time is None else max(1, min(WARNING, _seconds(self.time) // 4))


class Cluster(Protocol):
    """What the executor needs of Slurm; the tests have one that needs none."""

    def submit(self, command: str, count: int, logs: Path) -> str:
        """Queue an array of jobs ``0 … count - 1`` that run a shell command, and return its number."""

    def states(self) -> dict[str, str] | None:
        """Return the state of the user's jobs by ``array_index``, None when Slurm does not answer."""

    def cancel(self, jobs: Iterable[str], *, at_once: bool = False) -> None:
        """Cancel jobs: with time to save, or `at_once`."""


class SlurmCommands:
    """The Slurm that this machine's commands talk to.

    Raises `InputError` where sbatch or submitit is missing, and for a share of a GPU.
    """

    def __init__(self, resources: Resources, options: SlurmOptions) -> None:
        if missing := [
            name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name) is None
        ]:
            raise InputError(
                f"--executor slurm needs Slurm's commands and this machine has no {missing[0]}; "
                "run it on a login node of the cluster"
            )
        if resources.gpus not in (0.0, 1.0):
            raise InputError(
                f"gpus is {resources.gpus:g} and Slurm gives whole GPUs; use 1, or the ray executor in a job"
            )
        self._resources = resources
        self._options = options

    def submit(self, command: str, count: int, logs: Path) -> str:
        """Queue an array and return its number; `InputError` with sbatch's words when it refuses."""
        try:
            import submitit
        except ImportError as error:
            raise InputError(
                "--executor slurm needs the library submitit, which is not installed; install sharpscope[slurm]"
            ) from error
        writer = submitit.SlurmExecutor(folder=logs)
        writer.update_parameters(**self._parameters(count))
        # The interface for functions pickles them and unpickles them in the job; a command needs neither.
        writer.parameters["map_count"] = count
        try:
            with (
                interrupts_held_back()
            ):  # Ctrl-C must not leave us without the number of jobs that were queued
                return str(writer._submit_command(command).job_id)
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            lines = [line.strip() for line in str(error).splitlines() if "sbatch: error" in line]
            reason = lines[-1] if lines else " ".join(str(error).split())
            raise InputError(
                f"Slurm refused the jobs ({reason}); change the options and run it again"
            ) from error

    def _parameters(self, count: int) -> dict[str, Any]:
        """Return what submitit is told, by its names for sbatch's options."""
        mine, options = self._resources, self._options
        extra: dict[str, Any] = {"requeue": True}
        extra.update({name: value or True for name, value in options.extra.items()})
        optional = {
            "time": options.time,
            "partition": options.partition,
            "gpus_per_node": mine.ranks if mine.gpus else None,
            "mem": None if mine.memory is None else f"{int(mine.memory * 1e9 / 2**20)}M",
        }
        return {
            "job_name": "sharpscope",
            "cpus_per_task": mine.cores,
            "signal_delay_s": options.warning(),
            "array_parallelism": count,
            # Since 22.05 a step does not take over how many cores its job has.
            "srun_args": [f"--cpus-per-task={mine.cores}"],
            "wckey": None,  # submitit's own is unknown to clusters that keep such keys
            "additional_parameters": extra,
            "time": None,  # the partition's, not submitit's five minutes
            **{name: value for name, value in optional.items() if value is not None},
        }

    def states(self) -> dict[str, str] | None:
        """Return the state of every job of the user's that Slurm still knows, by ``array_index``."""
        answer = _run(
            ["squeue", f"--user={os.getuid()}", "--array", "--states=all", "--noheader", "--format=%i|%T"]
        )
        if answer is None or answer.returncode != 0:
            return None
        return dict(line.split("|", 1) for line in answer.stdout.split() if "|" in line)

    def cancel(self, jobs: Iterable[str], *, at_once: bool = False) -> None:
        """Cancel jobs; those that are over already are passed over."""
        named = list(jobs)
        for first in range(0, len(named), _AT_ONCE):
            chunk = named[first : first + _AT_ONCE]
            if at_once:
                _run(["scancel", "--quiet", "--signal=KILL", *chunk])
            _run(["scancel", "--quiet", *chunk])


def _seconds(limit: str) -> int:
    """Return a time limit in seconds, as sbatch reads it.

    >>> [_seconds(limit) for limit in ("90", "1:30", "1:30:00", "2-12", "1-0:30")]
    [5400, 90, 5400, 216000, 88200]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit.strip())
    if match is None or not any(int(part) for part in match.groups(default="0")):
        raise InputError(f"--time is {limit!r}; write minutes, as in 90, or D-HH:MM:SS, as in 1-12:00:00")
    days, *parts = match.groups()
    first, second, third = (None if part is None else int(part) for part in parts)
    if days is not None or third is not None:  # hours[:minutes[:seconds]]
        hours, minutes, seconds = first, second, third
    else:  # minutes[:seconds]
        hours, minutes, seconds = 0, first, second
    return ((int(days or 0) * 24 + (hours or 0)) * 60 + (minutes or 0)) * 60 + (seconds or 0)


def requeue(job: str) -> bool:
    """Put the job that asks for it back into the queue, and return whether Slurm agreed; called on its node."""
    answer = _run(["scontrol", "requeue", job])
    return answer is not None and answer.returncode == 0


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C is ours alone
            check=False,
        )
    return None
