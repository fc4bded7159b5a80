"""Messages between machines through files of a shared disk: JSON lines, appended by one, read by another.

A line is appended by one write to a file that was there before and is opened anew each time, which is when network
file systems look at what others have written. A reader takes whole lines only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def append(path: Path, message: dict[str, Any]) -> None:
    """Append one message to a file that is there; `FileNotFoundError` when it is not."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        rest = memoryview(json.dumps(message, default=str).encode() + b"\n")
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


class Inbox:
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
