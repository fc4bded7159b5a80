"""A Slurm without Slurm: jobs are processes of this machine, and a test decides what becomes of them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from pathlib import Path


class FakeSlurm:
    """Starts the jobs of an array at once; ends, queues again and refuses them when told to.

    A job that asks for it by ``scontrol requeue`` is started again at the next look; for that, `path` holds a
    ``scontrol`` that leaves a mark.
    """

    def __init__(self, path: Path, allow_requeue: bool = True) -> None:
        self._path = path
        self._path.mkdir()
        script = self._path / "scontrol"
        script.write_text(f'#!/bin/sh\n{"touch" if allow_requeue else "false"} "{self._path}/$2.requeued"\n')
        script.chmod(0o755)
        self._commands: dict[str, tuple[list[str], dict[str, str], Path]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._states: dict[str, str] = {}
        self.arrays: list[int] = []
        self.starts: list[str] = []

    def submit(self, command: str, count: int, logs: Path) -> str:
        self.arrays.append(count)
        array = str(100 + len(self.arrays))
        for index in range(count):
            path = f"{self._path}{os.pathsep}{os.environ['PATH']}"
            numbers = {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": str(index), "PATH": path}
            self._commands[f"{array}_{index}"] = (shlex.split(command), {**os.environ, **numbers}, logs)
            self._start(f"{array}_{index}")
        return array

    def _start(self, job: str) -> None:
        command, environment, logs = self._commands[job]
        with open(logs / f"{job}_0_log.err", "ab") as log:
            self._processes[job] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.starts.append(job)

    def states(self) -> dict[str, str]:
        found = {}
        for job, process in list(self._processes.items()):
            mark = self._path / f"{job}.requeued"
            if process.poll() is None:
                found[job] = "RUNNING"
            elif mark.exists():
                mark.unlink()
                self._start(job)
                found[job] = "PENDING"
            else:
                found[job] = self._states.get(job, "COMPLETED" if process.returncode == 0 else "FAILED")
        return found

    def cancel(self, jobs: list[str], *, at_once: bool = False) -> None:
        for job in jobs:
            self.end(job, "CANCELLED", signal.SIGKILL if at_once else signal.SIGTERM)

    def send(self, job: str, number: int) -> None:
        """Send a signal to a job and all its processes, as Slurm does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._processes[job].pid, number)

    def end(self, job: str, state: str, number: int = signal.SIGKILL) -> None:
        """End a job, with `number` first."""
        if self._processes[job].poll() is None:
            self._states[job] = state
            self.send(job, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._processes[job].wait(0.0 if number == signal.SIGKILL else 1.0)
            self.send(job, signal.SIGKILL)
            self._processes[job].wait()

    def preempt(self, job: str) -> None:
        """End a job as one that has to make room, and queue it again."""
        self.end(job, "PREEMPTED", signal.SIGTERM)
        (self._path / f"{job}.requeued").touch()

    def running(self) -> list[str]:
        return [job for job, process in self._processes.items() if process.poll() is None]
