"""A worker on another machine: the local executor that runs it there, and the message logs it is reached by.

Whichever engine starts a worker on a node, the task runs in the same kind of process that a laptop runs it in, in the
environment of the process that planned the sweep. What travels is JSON.

A message log is a file of a shared disk: JSON lines, appended by one machine and read by another. A line is appended
by one write to a file that was there before and is opened anew each time, which is when network file systems look at
what others have written. A reader takes whole lines only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.sweep.executors.local.executor import LocalExecutor
from sharpscope.sweep.executors.worker_environment import WorkerEnvironment
from sharpscope.sweep.store.store import Store


def node_setup(store: Path, threads: int, ranks: int = 1) -> dict[str, Any]:
    """Return the setup that `open_node` needs, as JSON can hold it."""
    return {
        "store": str(store),
        "threads": threads,
        "ranks": ranks,
        **dataclasses.asdict(WorkerEnvironment.here()),
    }


def open_node(setup: Mapping[str, Any]) -> LocalExecutor:
    """Return the executor, of one worker, that runs tasks on this node.

    Raises `StoreError` where the node does not see the store.
    """
    try:
        Store(setup["store"], create=False)
    except StoreError as error:
        raise StoreError(f"on node {socket.gethostname()}, {error}") from error
    # A node that lacks the folder may still do: only modules and data found by relative paths need it.
    folder = setup["folder"] if os.path.isdir(setup["folder"]) else os.getcwd()
    around = WorkerEnvironment(tuple(setup["path"]), folder)
    return LocalExecutor(
        Path(setup["store"]), 1, setup["threads"], environment=around, ranks=setup.get("ranks", 1)
    )


def append(path: Path, message: dict[str, Any]) -> None:
    """Append one message to a file that is there; `FileNotFoundError` when it is not."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        rest = memoryview(json.dumps(message, default=str).encode() + b"\n")
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


class MessageLog:
    """Reads a file of messages from where it last stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def new(self) -> list[dict[str, Any]]:
        """Return the messages that have come since the last call; `FileNotFoundError` when the file is gone."""
        with open(self._path, "rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
