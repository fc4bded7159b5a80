"""When to measure: every so many steps, or as often as a share of the training time affords."""

from __future__ import annotations

import time
from collections.abc import Callable

from sharpscope.errors import InputError


class Pace:
    """Decides, step by step, whether a measurement is due.

    With ``share`` s, a measurement of expected cost c is due when (cost so far + c) ≤ s · (elapsed + c), both in
    seconds since the first step was announced. The expectation is a tenth above the dearer of the last two.

    >>> now = 0.0
    >>> pace = Pace(None, 0.1, clock=lambda: now)
    >>> pace.expect(1.0)
    >>> pace.begin(); pace.due(1)
    False
    >>> now = 10.0
    >>> pace.due(2)
    True
    """

    def __init__(
        self, every: int | None, share: float | None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if (every is None) == (share is None):
            raise InputError(
                f"a monitor takes every or share, received {every=} and {share=}; give one of them"
            )
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise InputError(f"every must be a whole number of at least 1 step, received {every!r}")
        if share is not None and not 0 < share < 1:
            raise InputError(f"share must lie between 0 and 1, received {share}; for example 0.05")
        self.every, self.asked = every, share
        self.measuring = 0.0
        self._clock = clock
        self._began: float | None = None
        self._recent: list[float] = []

    def begin(self) -> None:
        """Start the clock, if it is not running yet."""
        if self._began is None:
            self._began = self._clock()

    def expect(self, cost: float) -> None:
        """State what a measurement is expected to cost, in seconds."""
        self._recent = [*self._recent, cost][-2:]

    def due(self, step: int) -> bool:
        """Say whether to measure after this step."""
        if self.every is not None:
            return step % self.every == 0
        cost = 1.1 * max(self._recent)
        assert self.asked is not None
        return self.measuring + cost <= self.asked * (self.elapsed + cost)

    def paid(self, seconds: float, measurement: bool = True) -> None:
        """Note what was spent; whole measurements tell what the next one is expected to cost."""
        self.measuring += seconds
        if measurement:
            self.expect(seconds)

    @property
    def elapsed(self) -> float:
        """Seconds since the clock began, measuring included."""
        return 0.0 if self._began is None else self._clock() - self._began

    @property
    def share(self) -> float:
        """The share of the elapsed time that went into measuring."""
        return self.measuring / self.elapsed if self.elapsed else 0.0
