"""The points that a long series of evaluations has finished, kept in a file so that a second call continues."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sharpscope.errors import InputError
from sharpscope.serialization import write_whole

Progress = Callable[[int, int], None]
Values = tuple[float, float | None]


class Ledger:
    """Evaluated points by number, in a JSON file that also holds the request they belong to."""

    def __init__(self, path: Path | str | None, request: dict[str, object], every_s: float = 5.0) -> None:
        self.path = None if path is None else Path(path)
        self.request, self.every_s, self.saved = request, every_s, time.monotonic()
        self.done: dict[int, Values] = {}
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def _read(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            request, done = content["request"], content["done"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} must hold the points of an earlier call, it cannot be read; remove it"
            ) from error
        if request != json.loads(json.dumps(self.request)):
            raise InputError(
                f"{path} holds points of another request (other weights, data, points or settings); "
                "remove it or pass another file"
            )
        self.done = {int(key): (loss, accuracy) for key, (loss, accuracy) in done.items()}

    def run(
        self, evaluate: Callable[[int], Values], count: int, progress: Progress | None
    ) -> Sequence[Values]:
        """Evaluate the points that are missing, in order, and return all of them."""
        try:
            for index in range(count):
                if index not in self.done:
                    self.done[index] = evaluate(index)
                    if time.monotonic() - self.saved > self.every_s:
                        self.save()
                if progress is not None:
                    progress(index + 1, count)
        finally:
            self.save()
        return [self.done[index] for index in range(count)]

    def save(self) -> None:
        """Write the file whole or not at all."""
        if self.path is None:
            return
        write_whole(self.path, json.dumps({"request": self.request, "done": self.done}))
        self.saved = time.monotonic()
