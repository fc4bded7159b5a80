"""Tasks on a Ray cluster: each worker is an actor, placed by Ray where its resources are free.

An actor holds one worker process of its own, the same that a laptop uses, and passes messages on as JSON text. Ray
pickles what passes between its own processes; nothing of ours travels that way but the names of this module's class
and those texts. When a node dies, its actors' tasks are reported lost, and actors asked for in their place start
wherever Ray finds room.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpscope.errors import InputError, SharpscopeError
from sharpscope.sweep.executors.interface import Message, Resources
from sharpscope.sweep.executors.local.executor import LocalExecutor
from sharpscope.sweep.executors.node import node_setup, open_node
from sharpscope.sweep.executors.worker_environment import usable_cores
from sharpscope.sweep.executors.worker_slots import ENDS, SlotExecutor, WorkerSlot
from sharpscope.sweep.task import Task

_PATIENCE = 2.0  # seconds that an actor waits for a message of its worker; a request to stop waits as long
_GATHER = 0.25  # seconds in which what else it says travels along
_LEAVE = 5.0  # seconds that actors get to end their workers
_OBJECTS = 80_000_000  # bytes of a local cluster's object store, which we hardly use; Ray wants this at least


class RayWorker:
    """The actor: one worker on a node, reached by calls that take and return JSON text."""

    def __init__(self, setup: str) -> None:
        self._setup = json.loads(setup)
        self._executor: LocalExecutor | None = None

    def greet(self) -> str:
        """Return the node's name, and why no worker can run here."""
        trouble = None
        try:
            self._executor = open_node(self._setup)
        except SharpscopeError as error:
            trouble = str(error)
        return json.dumps({"host": socket.gethostname(), "trouble": trouble})

    def work(self, task: str) -> str:
        """Start a task and return its first messages."""
        self._there().submit(Task.from_fields(json.loads(task)))
        return self.hear()

    def hear(self) -> str:
        """Return the worker's messages of the next moments, soon after the first has come."""
        messages: list[Message] = []
        until = time.monotonic() + _PATIENCE
        while not (messages and messages[-1]["event"] in ENDS) and (left := until - time.monotonic()) > 0:
            new = self._there().wait(left)
            if new and not messages:
                until = min(until, time.monotonic() + _GATHER)
            messages += new
        return json.dumps(messages, default=str)

    def stop(self) -> None:
        """Ask the task to save and stop."""
        self._there().ask_to_stop()

    def leave(self) -> None:
        """End the worker."""
        self._there().close()

    def _there(self) -> LocalExecutor:
        if self._executor is None:
            raise SharpscopeError("this actor has not been greeted; nothing can run in it")
        return self._executor


@dataclass(eq=False)
class _RaySlot(WorkerSlot):
    """An actor, and the answer that is awaited from it."""

    actor: Any = None
    answer: Any = None
    host: str = "a node"


class RayExecutor(SlotExecutor[_RaySlot]):
    """Workers of a Ray cluster: one that is there, or one that is started on this machine and ended by `close`.

    Args:
        store: the folder of the store the results go to, on a file system that every node sees.
        resources: what Ray sets aside for each worker.
        workers: how many at a time; by default as many as the cluster has resources for now.
        address: the cluster's, as `ray.init` takes it (``"auto"`` finds the one this machine belongs to); None starts
            a local one, unless this process has connected itself to a cluster already.

    Every node needs the same Python, Ray and sharpscope.

    Raises `InputError` where Ray is not installed, the cluster cannot be reached or no node of it is large enough.

    """

    def __init__(
        self,
        store: Path,
        resources: Resources | None = None,
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        self._resources = resources or Resources()
        self._setup = json.dumps(node_setup(store, self._resources.threads, self._resources.ranks))
        self._ray, self._connected = _connect(address)
        try:
            super().__init__(workers if workers is not None else self._fitting())
        except InputError:
            self._disconnect()
            raise
        self._actor = self._ray.remote(
            num_cpus=self._resources.cores,
            num_gpus=self._resources.gpus * self._resources.ranks,
            memory=None if self._resources.memory is None else int(self._resources.memory * 1e9),
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(RayWorker)

    def _fitting(self) -> int:
        """Return how many workers the nodes that are there have resources for."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        total = 0
        for node in nodes:
            fits = [int(node.get("CPU", 0) // self._resources.cores)]
            if self._resources.gpus:
                fits.append(self._resources.on_gpus(node.get("GPU", 0)))
            if self._resources.memory is not None:
                fits.append(int(node.get("memory", 0) // (self._resources.memory * 1e9)))
            total += min(fits)
        if not total:
            raise InputError(
                f"each run asks for {_wish(self._resources)} and no node of the Ray cluster has that; "
                "ask for less, or give --workers to wait for nodes that will join"
            )
        return total

    def wait(self, timeout: float) -> list[Message]:
        """Return the messages that have come, waiting up to `timeout` seconds for the first."""
        if not self._stopping:
            self._place()
        awaited = {slot.answer: slot for slot in self._slots if slot.answer is not None}
        if self._messages or not awaited:
            time.sleep(0.0 if self._messages else timeout)
            return self._take_messages()
        self._ray.wait(list(awaited), num_returns=1, timeout=timeout)
        ready, _ = self._ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        for answer in ready:
            self._take(awaited[answer])
        return self._take_messages()

    def _take(self, slot: _RaySlot) -> None:
        """Take the answer of a slot's actor, and ask again while it has a task."""
        try:
            reported = json.loads(self._ray.get(slot.answer))
        except self._ray.exceptions.RayError as error:
            with contextlib.suppress(Exception):  # an actor that only seems dead must not work on
                self._ray.kill(slot.actor)
            if slot.ready:
                self._lost(slot, f"its Ray worker on {slot.host} was lost ({_last_line(error)})")
            else:
                self._start_failed(slot, _last_line(error))
            return
        if slot.ready:
            for message in reported:
                self._hear(slot, message)
        elif reported["trouble"] is not None:
            self._start_failed(slot, reported["trouble"])
            return
        else:
            slot.host = reported["host"]
            self._report(slot)
        slot.answer = slot.actor.hear.remote() if slot.task is not None else None

    def _request(self, numbers: range) -> list[_RaySlot]:
        actors = [(number, self._actor.remote(self._setup)) for number in numbers]
        return [_RaySlot(number, actor=actor, answer=actor.greet.remote()) for number, actor in actors]

    def _give(self, slot: _RaySlot, task: Task) -> None:
        slot.answer = slot.actor.work.remote(json.dumps(dataclasses.asdict(task)))

    def _ask(self, slot: _RaySlot) -> None:
        slot.actor.stop.remote()

    def _end_idle(self, slot: _RaySlot) -> None:
        self._end([slot])

    def _end(self, slots: list[_RaySlot]) -> None:
        """End idle actors in good order and the others at once."""
        leaving = [slot.actor.leave.remote() for slot in slots if slot.ready and slot.task is None]
        if leaving:
            self._ray.wait(leaving, num_returns=len(leaving), timeout=_LEAVE)
        for slot in slots:
            self._ray.kill(slot.actor)

    def kill(self) -> None:
        """End every worker now."""
        for slot in self._slots:
            with contextlib.suppress(Exception):  # the cluster itself may be gone
                self._ray.kill(slot.actor)
        self._slots.clear()

    def close(self) -> None:
        """End every worker, and the cluster if it was started here."""
        with contextlib.suppress(Exception):
            self._end(self._slots)
        self._slots.clear()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connected:
            self._ray.shutdown()


def _connect(address: str | None) -> tuple[Any, bool]:
    """Return the library, connected to a cluster, and whether that was done here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Keeps the output of Ray's own processes off our standard output; Ray reads it when it is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--executor ray needs the library ray, which is not installed; install sharpscope[ray]"
        ) from error
    if ray.is_initialized():
        return ray, False
    local: dict[str, Any] = {}
    if address is None:
        local = {"num_cpus": usable_cores(), "object_store_memory": _OBJECTS, "include_dashboard": False}
    try:
        _check_port(address)
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"cannot reach a Ray cluster at '{address or 'local'}' ({_last_line(error)}); check the address, and "
            "that the cluster runs the same versions of Python and Ray"
        ) from error
    return ray, True


def _check_port(address: str | None) -> None:
    """Raise `OSError` where nobody answers at a plain ``host:port``; Ray would retry for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10.0).close()


def _wish(resources: Resources) -> str:
    words = [f"{resources.cores} CPU{'s' if resources.cores > 1 else ''}"]
    words += (
        [f"{resources.gpus * resources.ranks:g} GPU{'s' if resources.ranks > 1 else ''}"]
        if resources.gpus
        else []
    )
    words += [f"{resources.memory:g} GB of memory"] if resources.memory is not None else []
    return " and ".join(words)


def _last_line(error: BaseException) -> str:
    """Return the last line of Ray's message, which states the cause, without Ray's ids."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = re.sub(r" [0-9a-f]{16,}", "", lines[-1]) if lines else type(error).__name__
    return line.partition(" The task may or may not")[0].rstrip(".")
