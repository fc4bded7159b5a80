"""A worker process: takes one task after another from its coordinator and publishes their results.

Orders come as JSON lines on standard input, events go out as JSON lines on what was standard output; what a
task prints goes to standard error instead. A worker ignores Ctrl-C (its coordinator asks it to stop) and does
not outlive its coordinator.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from sharpscope.errors import SharpscopeError
from sharpscope.sweep.executors.attempt import attempt
from sharpscope.sweep.executors.local.peers import OtherRanks, Rank
from sharpscope.sweep.store.store import Store
from sharpscope.sweep.task import Task

_ORPHANED = 70
_PR_SET_PDEATHSIG = 1  # Linux's <sys/prctl.h>


def main(setup: Mapping[str, Any]) -> None:
    """Serve the coordinator until it says to exit.

    `setup` holds the coordinator's process number (``parent``), the folder of the ``store`` and the ``threads``.
    """
    _ignore_interrupts()
    _die_with(setup["parent"])
    faulthandler.enable()  # so that a crash in native code leaves a traceback in the log
    orders, channel = _take_over_streams()
    peers = OtherRanks(setup["ranks"]) if setup.get("ranks", 1) > 1 else None
    worker = _Worker(channel, Store(setup["store"], create=False), setup["threads"], peers)
    threading.Thread(target=worker.listen, args=(orders,), daemon=True).start()
    worker.serve()


def serve_as_rank(setup: Mapping[str, Any]) -> None:
    """Serve the worker that is rank 0 until it ends; see `sharpscope.sweep.executors.local.peers`."""
    _ignore_interrupts()
    _die_with(setup["parent"])
    orders, channel = _take_over_streams()
    with open(orders, encoding="utf-8") as lines:
        for line in lines:
            order = json.loads(line)
            module, _, name = order["entry"].partition(":")
            trouble = None
            try:
                function = getattr(importlib.import_module(module), name)
                function(order["payload"], Rank(setup["rank"], setup["ranks"], order))
            except BaseException as error:  # whatever it is, rank 0 must hear of it
                traceback.print_exc()
                first = next((words for words in str(error).splitlines() if words.strip()), "")
                named = first if isinstance(error, SharpscopeError) else f"{type(error).__name__}: {first}"
                trouble = f"on rank {setup['rank']}, {named}"
            os.write(channel, json.dumps({"trouble": trouble}).encode() + b"\n")
            if trouble is not None:
                os._exit(1)  # closes the connections at which other ranks may wait


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the coordinator, which starts its workers with it blocked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


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
    """The state of a worker: its channel, its store, its peers and whether it was asked to stop."""

    def __init__(self, channel: int, store: Store, threads: int, peers: OtherRanks | None) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._store = store
        self._threads, self._peers = threads, peers
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
                peers=self._peers,
            )
        if self._peers is not None:
            self._peers.end()
