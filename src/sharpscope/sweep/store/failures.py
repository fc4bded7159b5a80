"""The records of tasks that have no result: one small file each, kept until there is one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from sharpscope.serialization import readable_json

FOLDER = "failures"


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: a reason of one sentence, the traceback and the last words of its worker.

    ``crashes`` counts the workers that died on it; it is 0 when the task raised an exception.
    """

    id: str
    kind: str
    label: str
    reason: str
    traceback: str = ""
    log: str = ""
    crashes: int = 0

    def text(self) -> str:
        """Return what its file holds."""
        return readable_json(dataclasses.asdict(self))


def failure_path(root: Path, result: str) -> Path:
    """Return the path of a result's failure record, which need not exist."""
    return root / FOLDER / f"{result}.json"


def read_failure(path: Path) -> Failure:
    """Return a record; one that is damaged says so as its reason."""
    try:
        return Failure(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return Failure(path.stem, "", "", f"its record {path} is damaged; run it again")


def failure_paths(root: Path) -> list[Path]:
    """Return the paths of all records, sorted."""
    return sorted(root.glob(f"{FOLDER}/*.json"))


def failure_mark(path: Path) -> tuple[int, int] | None:
    """Return what tells a record from a later one of the same result, None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
