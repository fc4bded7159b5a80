"""The end of a line to another machine: one local worker there, in the surroundings of the process that planned.

Whichever engine brought us to a node, the task runs in the same kind of process that a laptop runs it in. What
travels is JSON.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.sweep.executors.local.executor import LocalExecutor
from sharpscope.sweep.executors.worker_environment import Surroundings
from sharpscope.sweep.store.store import Store


def node_setup(store: Path, threads: int) -> dict[str, Any]:
    """Return what `open_node` must know, as JSON can hold it."""
    return {"store": str(store), "threads": threads, **dataclasses.asdict(Surroundings.here())}


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
    around = Surroundings(tuple(setup["path"]), folder)
    return LocalExecutor(Path(setup["store"]), 1, setup["threads"], surroundings=around)
