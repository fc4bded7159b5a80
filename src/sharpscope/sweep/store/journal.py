"""What was done to a store, line by line: a history for people, on which nothing else relies.

``journal.jsonl`` is only ever appended to, each line by one write, so that the lines of many processes do not mix on
a local disk. On a shared file system a line may be lost or broken; readers pass over what is no JSON.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from pathlib import Path
from typing import Any

from sharpscope.sweep.store.owner import own_tag

NAME = "journal.jsonl"


def note(root: Path, event: str, **fields: Any) -> None:
    """Append one line: the event, the moment by this machine's clock, this process's tag and `fields`.

    What the disk refuses is let go: a history with a gap is no reason to lose a result.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"event": event, **fields, "at": now, "by": own_tag()}) + "\n"
    with contextlib.suppress(OSError):
        handle = os.open(root / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def read_journal(root: Path) -> list[dict[str, Any]]:
    """Return the lines of a store's journal, the oldest first; none where there is no journal."""
    try:
        lines = (root / NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                entries.append(entry)
    return entries
