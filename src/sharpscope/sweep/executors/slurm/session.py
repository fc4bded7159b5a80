"""The folder through which a coordinator and its Slurm jobs exchange messages, in the store that they share.

``.slurm/<coordinator>/`` holds ``setup.json`` (what every job must know), the coordinator's heartbeat, ``logs/`` (the
job script and what the jobs print) and for every worker ``<number>.orders`` and ``<number>.events``: message logs
(`sharpscope.sweep.executors.node`), each written by one side.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpscope.sweep.store.disk_errors import as_store_error
from sharpscope.sweep.store.liveness import FOLDER as HEARTBEATS
from sharpscope.sweep.store.liveness import new_coordinator, tag_of
from sharpscope.sweep.store.owner import may_live

FOLDER = ".slurm"


class Session:
    """The paths of one coordinator's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coordinator = folder.name
        self.logs = folder / "logs"
        self._setup = folder / "setup.json"

    @classmethod
    def begin(cls, store: Path, setup: Mapping[str, Any]) -> Session:
        """Make the folder of a new coordinator; `StoreError` where the store cannot be written."""
        session = cls(store / FOLDER / new_coordinator())
        with as_store_error(f"write to the store {store}"):
            for folder in (HEARTBEATS, "tmp", "logs"):
                (session.folder / folder).mkdir(parents=True)
            session._setup.write_text(json.dumps(setup), encoding="utf-8")
        return session

    def setup(self) -> dict[str, Any]:
        """Return what `begin` was given."""
        content: dict[str, Any] = json.loads(self._setup.read_text(encoding="utf-8"))
        return content

    def orders(self, number: int) -> Path:
        """Return the log of orders to a worker."""
        return self.folder / f"{number}.orders"

    def events(self, number: int) -> Path:
        """Return the log of events from a worker."""
        return self.folder / f"{number}.events"

    def create_message_logs(self, numbers: range) -> None:
        """Make the empty message logs of some workers: on a network file system a new file would be seen later."""
        for number in numbers:
            for path in (self.orders(number), self.events(number)):
                path.touch()

    def end(self) -> None:
        """Remove the folder, and the one that holds all sessions when this was the last."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def clear_dead_sessions(store: Path) -> None:
    """Remove the folders of coordinators of this machine that are gone; their jobs notice that and end."""
    for folder in (store / FOLDER).glob("*"):
        if not may_live(tag_of(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)
