"""What a store keeps beside its results: the records of failures, and the journal.

``failures/<id>.json`` says why a task has no result, and is kept until there is one. ``journal.jsonl`` says what was
done to the store, line by line: a history for people, on which nothing else relies. It is only ever appended to, each
line by one write, so that the lines of many processes do not mix on a local disk. On a shared file system a line may
be lost or broken; readers pass over it. Failures and lines end in a SHA-256 of their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpscope.serialization import readable_json, seal_json, unseal_json
from sharpscope.sweep.store.owner import own_tag

FOLDER = "failures"


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: a reason of one sentence, the traceback and the log tail of its worker.

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
        """Return the content of its file, sealed."""
        return seal_json(readable_json(dataclasses.asdict(self)))


def failure_path(root: Path, result: str) -> Path:
    """Return the path of a result's failure record, which need not exist."""
    return root / FOLDER / f"{result}.json"


def read_failure(path: Path) -> Failure:
    """Return a record; one that is damaged says so as its reason."""
    return _read_failure(path) or Failure(path.stem, "", "", f"its record {path} is damaged; run it again")


def _read_failure(path: Path) -> Failure | None:
    """Return a record, None when any byte of it has changed."""
    try:
        fields = unseal_json(path.read_bytes())
        whole = all(isinstance(fields[name], str) for name in ("kind", "label", "reason", "traceback", "log"))
        if not whole or fields["id"] != path.stem or type(fields["crashes"]) is not int:
            return None
        return Failure(**fields)
    except (ValueError, KeyError, TypeError, IsADirectoryError, RecursionError):
        return None


def failure_paths(root: Path) -> list[Path]:
    """Return the paths of all records, sorted."""
    return sorted(root.glob(f"{FOLDER}/*.json"))


def failure_mark(path: Path) -> tuple[int, int] | None:
    """Return a value that differs between a record and a later one of the same result; None without a record."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


NAME = "journal.jsonl"


def note(root: Path, event: str, **fields: Any) -> None:
    """Append one line: the event, the moment by this machine's clock, this process's tag and `fields`.

    An error of the disk is ignored: a gap in the history is no reason to lose a result.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = seal_json(json.dumps({"event": event, **fields, "at": now, "by": own_tag()}) + "\n")
    with contextlib.suppress(OSError):
        handle = os.open(root / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def read_journal(root: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a store's journal, the oldest first; none where there is no journal."""
    entries = []
    for line in _lines(root):
        with contextlib.suppress(ValueError):
            entries.append(unseal_json(line))
    return entries


def find_damaged_records(root: Path) -> dict[str, str]:
    """Return what is wrong with each damaged failure record and with the journal, by path in the store."""
    found = {
        f"{FOLDER}/{path.name}": "does not match its own SHA-256; remove it and run the study again"
        for path in failure_paths(root)
        if _read_failure(path) is None
    }
    for number, line in enumerate(_lines(root), start=1):
        try:
            unseal_json(line)
        except ValueError:
            found[NAME] = f"line {number} does not match its own SHA-256; remove the file, a mere history"
            break
    return found


def _lines(root: Path) -> list[bytes]:
    try:
        return (root / NAME).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
