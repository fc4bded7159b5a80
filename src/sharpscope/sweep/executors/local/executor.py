"""Tasks in processes of this machine: each worker pays its imports once and takes many tasks."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from sharpscope.errors import InputError, SharpscopeError
from sharpscope.sweep.executors.interface import Message
from sharpscope.sweep.executors.worker_environment import WorkerEnvironment, thread_environment, usable_cores
from sharpscope.sweep.task import Task

# A worker is started by name and told where to import from, rather than through multiprocessing, whose spawned
# processes run the main script again: that fails from standard input and misfires without a __main__ guard.
# -P keeps the current folder out of the way of the standard library's names.
_COMMAND = (
    "import json, sys; setup = json.loads(sys.argv.pop()); sys.path[:] = setup['path']; "
    "from sharpscope.sweep.executors.local.worker import main; main(setup)"
)
_START_FAILURES = 3
_LOG_LINES = 40


class LocalExecutor:
    """Worker processes of this machine, started when first needed and ended by `close`.

    Args:
        store: the folder of the store the results go to.
        workers: how many processes; by default the usable cores divided by `threads`.
        threads: threads for each rank's computations. Sums come out differently in their last bits when they are
            split among another number of threads, so it is 1 however few the workers are, unless told otherwise.
        devices: names of CUDA devices. Each worker sees one of them alone, and they are dealt out evenly; none means
            that every worker sees what this process sees.
        environment: import path and working directory of workers; by default those of this process.
        ranks: processes that compute each task together. A worker sees as many devices.

    Raises `InputError` for fewer than one worker, thread or rank.

    """

    def __init__(
        self,
        store: Path,
        workers: int | None = None,
        threads: int = 1,
        *,
        devices: Sequence[str] = (),
        environment: WorkerEnvironment | None = None,
        ranks: int = 1,
    ) -> None:
        for name, count in (("threads", threads), ("ranks", ranks)):
            if count < 1:
                raise InputError(f"{name} is {count} and a worker needs at least 1; give a positive number")
        if workers is not None and workers < 1:
            raise InputError(f"workers is {workers} and a sweep needs at least 1; give a positive number")
        self.workers = workers if workers is not None else max(1, usable_cores() // (threads * ranks))
        self._store = store
        self.threads = threads
        self._ranks = ranks
        self._devices = [",".join(devices[i : i + ranks]) for i in range(0, len(devices) - ranks + 1, ranks)]
        self._environment = environment
        # Not a SimpleQueue: a signal late in its timed wait can make CPython 3.11 wait for ever, deaf to Ctrl-C.
        self._heard: queue.Queue[tuple[_Process, Message | None]] = queue.Queue()
        self._processes: list[_Process] = []
        self._started = 0
        self._failed_starts = 0

    def room(self) -> int:
        """Return how many more tasks could start now."""
        return self.workers - sum(process.task is not None for process in self._processes)

    def submit(self, task: Task) -> None:
        """Hand a task to an idle process, starting one if there is none."""
        process = next((p for p in self._processes if p.task is None), None)
        if process is None:
            self._started += 1
            around = self._environment or WorkerEnvironment.here()
            device = self._spare_device()
            process = _Process(
                self._started, self._store, self.threads, self._ranks, around, device, self._heard
            )
            self._processes.append(process)
        process.task = task.id
        process.order(do="run", task=dataclasses.asdict(task))

    def _spare_device(self) -> str | None:
        """Return the device that the fewest processes have, None when they are not dealt out."""
        held = collections.Counter(process.device for process in self._processes)
        return min(self._devices, key=lambda device: held[device], default=None)

    def wait(self, timeout: float) -> list[Message]:
        """Return the messages that have come, waiting up to `timeout` seconds for the first."""
        messages: list[Message] = []
        with contextlib.suppress(queue.Empty):
            self._take(*self._heard.get(timeout=timeout), messages)
            while True:
                self._take(*self._heard.get_nowait(), messages)
        for process in list(self._processes):
            if process.silently_dead():
                self._reap(process, messages)
        return messages

    def _take(self, process: _Process, message: Message | None, messages: list[Message]) -> None:
        """Add a message to `messages` and note whether its process is still busy; None: the process has ended."""
        if message is None:
            if process in self._processes:
                self._reap(process, messages)
            return
        event = message["event"]
        if event == "ready":
            self._failed_starts = 0
            process.ready = True
            return
        message.setdefault("task", process.task)
        message["worker"] = process.number
        if event in ("done", "interrupted", "failed", "disk"):
            process.task = None
        if message["task"] is not None:
            messages.append(message)

    def _reap(self, process: _Process, messages: list[Message]) -> None:
        """Remove a dead process, and report the task that was lost with it."""
        self._processes.remove(process)
        status = process.end()
        log = process.log_tail()
        if not process.ready and status > 0:
            self._failed_starts += 1
            if self._failed_starts >= _START_FAILURES:
                words = log.strip().splitlines() or [f"exit status {status}"]
                raise SharpscopeError(f"worker processes cannot start ({words[-1]}); check the installation")
        if process.task is not None:
            lost = {"event": "lost", "task": process.task, "worker": process.number}
            messages.append({**lost, "reason": exit_reason(status), "log": log})
            # lines that it printed and that are read only now belong to no task that runs
            process.task = None

    def ask_to_stop(self) -> None:
        """Ask every running task to save and stop."""
        for process in self._processes:
            process.order(do="stop")

    def kill(self) -> None:
        """End every process now."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.end()
        self._processes.clear()

    def close(self) -> None:
        """End idle processes in good order and any that is still busy at once."""
        for process in self._processes:
            if process.task is None:
                process.order(do="exit")
            else:
                process.kill()
        patience = time.monotonic() + 5.0
        for process in self._processes:
            process.end(max(0.0, patience - time.monotonic()))
        self._processes.clear()


class _Process:
    """One worker process, with threads that read what it says and what it prints."""

    def __init__(
        self,
        number: int,
        store: Path,
        threads: int,
        ranks: int,
        environment: WorkerEnvironment,
        device: str | None,
        heard: queue.Queue[tuple[_Process, Message | None]],
    ) -> None:
        self.number = number
        self.device = device
        self.task: str | None = None
        self.ready = False
        self._printed: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
        self._died: float | None = None
        setup = {"path": environment.path, "parent": os.getpid(), "store": str(store), "threads": threads}
        setup |= {"ranks": ranks}
        alone = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
        with interrupts_held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, json.dumps(setup)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=environment.folder,
                env={**os.environ, **thread_environment(threads), **alone},
            )
        self._readers = [
            threading.Thread(target=self._read_messages, args=(self._process.stdout, heard), daemon=True),
            threading.Thread(target=self._read_prints, args=(self._process.stderr, heard), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_messages(self, stream: IO[bytes], heard: queue.Queue[tuple[_Process, Message | None]]) -> None:
        with stream:
            for line in stream:
                if line.endswith(b"\n"):  # a process killed while writing leaves half a line
                    heard.put((self, json.loads(line)))
        heard.put((self, None))

    def _read_prints(self, stream: IO[bytes], heard: queue.Queue[tuple[_Process, Message | None]]) -> None:
        with stream:
            for line in stream:
                text = line.decode(errors="replace").rstrip()
                self._printed.append(text)
                heard.put((self, {"event": "log", "text": text}))

    def order(self, **fields: Any) -> None:
        """Send an order; the end of a process that has died meanwhile is noticed by its reader."""
        stream = self._process.stdin
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.write(json.dumps(fields).encode() + b"\n")
                stream.flush()

    def silently_dead(self) -> bool:
        """Return whether the process died while a child of its own keeps its stream open, which hides the end."""
        if self._process.poll() is None or not self._readers[0].is_alive():
            return False  # alive, or the end of its stream is on the way
        self._died = self._died or time.monotonic()
        return time.monotonic() - self._died > 1.0

    def kill(self) -> None:
        self._process.kill()

    def end(self, patience: float = 1.0) -> int:
        """Wait for the process to end, ending it when it does not, and return its exit status."""
        try:
            status = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        return status

    def log_tail(self) -> str:
        """Return the last lines the process printed."""
        self._readers[1].join(timeout=0.5)
        return "\n".join(self._printed)


def exit_reason(status: int) -> str:
    """Return how a worker process ended, from its exit status as `subprocess` gives it.

    >>> exit_reason(-9)
    'its worker process was ended by signal SIGKILL, possibly out of memory'
    >>> exit_reason(3)
    'its worker process ended in the middle of it with exit status 3'
    """
    if status >= 0:
        return f"its worker process ended in the middle of it with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    hint = ", possibly out of memory" if name == "SIGKILL" else ""
    return f"its worker process was ended by signal {name}{hint}"


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let a process started in the block begin with Ctrl-C blocked, until it has installed its own handler.

    The terminal sends Ctrl-C to the workers too, and one that is still importing would end. A Ctrl-C for this process
    is delivered after the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
