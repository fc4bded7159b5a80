"""The points that a long series of evaluations has finished, kept in a file so that a second call continues."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from sharpscope.curvature.call_limits import CallLimits
from sharpscope.errors import InputError, NotConvergedWarning
from sharpscope.serialization import write_whole

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

    def run(self, evaluate: Callable[[int], Values], count: int, limits: CallLimits) -> Sequence[Values]:
        """Evaluate the missing points in order and return all of them, NaN for those that time was too short for."""
        limits.expected = count
        try:
            with limits.until_it_ends():
                for index in range(count):
                    if index not in self.done:
                        limits.check()
                        self.done[index] = evaluate(index)
                        if time.monotonic() - self.saved > self.every_s:
                            self.save()
                    limits.count(1)
        finally:
            self.save()
        missing = sum(index not in self.done for index in range(count))
        if missing:
            kept = (
                "the same call goes on"
                if self.path is not None
                else "pass partial= to go on from these points"
            )
            warnings.warn(
                f"{limits.ended} with {missing} of {count} points not evaluated; {kept}",
                NotConvergedWarning,
                stacklevel=3,
            )
        return [self.done.get(index, (math.nan, None)) for index in range(count)]

    def save(self) -> None:
        """Write the file whole or not at all."""
        if self.path is None:
            return
        write_whole(self.path, json.dumps({"request": self.request, "done": self.done}))
        self.saved = time.monotonic()
