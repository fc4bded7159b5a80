"""Ctrl-C and its like, counted instead of breaking work off anywhere."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupts:
    """Counts the times the user asked to stop, instead of letting that break the work off anywhere.

    Signals can only be caught in the main thread; elsewhere they go where they always do.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.count += 1
