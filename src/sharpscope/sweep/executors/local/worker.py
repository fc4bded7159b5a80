"""A worker process: takes one task after another from its coordinator and publishes their results.

Orders come as JSON lines on standard input, events go out as JSON lines on what was standard output; what a
task prints goes to standard error instead. A worker ignores Ctrl-C (its coordinator asks it to stop) and does
not outlive its coordinator.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from sharpscope.sweep.executors.attempt import attempt
from sharpscope.sweep.store.store import Store
from sharpscope.sweep.task import Task

_ORPHANED = 70
_PR_SET_PDEATHSIG = 1  # Linux's <sys/prctl.h>


def main(setup: Mapping[str, Any]) -> None:
    """Serve the coordinator until it says to exit.

    `setup` holds the coordinator's process number (``parent``), the folder of the ``store`` and the ``threads``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # the coordinator started it with Ctrl-C blocked
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with(setup["parent"])
    faulthandler.enable()  # so that a crash in native code leaves a traceback in the log
    orders, channel = _take_over_streams()
    worker = _Worker(channel, Store(setup["store"], create=False), setup["threads"])
    threading.Thread(target=worker.listen, args=(orders,), daemon=True).start()
    worker.serve()


def _die_with(parent: int) -> None:
    """End this process when the coordinator ends, even by ``kill -9``.

    On Linux the kernel does that at once. On every system the end of standard input ends it (`_Worker.listen`), and
    a thread that compares the parent's process number covers an input that another process holds open.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.name == "nt":  # a virtual environment's launcher stands between the two there
        parent = os.getppid()
    if os.getppid() != parent:
        os._exit(_ORPHANED)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(_ORPHANED)

    threading.Thread(target=watch, daemon=True).start()


def _take_over_streams() -> tuple[int, int]:
    """Return descriptors for orders and events, leaving tasks an empty input and the standard error."""
    orders, channel = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return orders, channel


class _Worker:
    """The state of a worker: its channel, its store and whether it was asked to stop."""

    def __init__(self, channel: int, store: Store, threads: int) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._store = store
        self._threads = threads
        self._stop = threading.Event()
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()

    def listen(self, orders: int) -> None:
        """Take orders until their stream ends, which means that the coordinator is gone."""
        with open(orders, encoding="utf-8") as lines:
            for line in lines:
                order = json.loads(line)
                if order["do"] == "run":
                    self._tasks.put(Task.from_fields(order["task"]))
                elif order["do"] == "stop":
                    self._stop.set()
                else:
                    self._tasks.put(None)
        os._exit(_ORPHANED)

    def send(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}, default=str) + "\n"
        with self._sending:
            rest = memoryview(line.encode())
            try:
                while rest:
                    rest = rest[os.write(self._channel, rest) :]
            except OSError:
                os._exit(_ORPHANED)

    def serve(self) -> None:
        self.send("ready")
        while (task := self._tasks.get()) is not None:
            attempt(
                self._store,
                task,
                threads=self._threads,
                send=lambda message: self.send(**message),
                should_stop=self._stop.is_set,
            )
