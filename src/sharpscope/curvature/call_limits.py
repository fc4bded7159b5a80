"""What a long call may be told: when to stop, whom to tell how far it is, what to do when it is interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from sharpscope.autograd.ranks import Ranks
from sharpscope.errors import InputError, require_one_of, require_positive

OnInterrupt = Literal["raise", "return"]

UNASKED = 60.0
"""Seconds that a call must be expected to take before it reports to a terminal without being asked to."""

EVERY = 5.0
"""Least seconds between two lines."""


@dataclass(frozen=True)
class CallProgress:
    """How far a call is.

    Attributes
    ----------
    call
        The function called.
    products, expected
        Products with all the data done, and about how many it will be in all; None where that cannot be told.
    seconds, seconds_per_product
        Since the call began, and what one product takes: estimated from the first chunk until one is done.
    note
        The value as it stands, in words.

    """

    call: str
    products: float
    expected: float | None
    seconds: float
    seconds_per_product: float
    note: str = ""

    def __str__(self) -> str:
        """Return one line: what a product takes, how many are done and to come, and when that will be."""
        line = f"{self.call}: a product takes about {_duration(self.seconds_per_product)}, {self.products:.0f} done"
        if self.expected is not None:
            to_come = max(self.expected - self.products, 0)
            line += f", about {to_come:.0f} to come ({_duration(to_come * self.seconds_per_product)})"
        return f"{line}; {self.note}" if self.note else line


Progress = Callable[[CallProgress], object] | bool | None
"""A function that is given a `CallProgress`; True prints it to stderr, False never; None prints it where a terminal
is attached and the call is expected to take over a minute."""


class DeadlineReachedError(Exception):
    """The deadline passed in the middle of a product."""


class CallLimits:
    """Keeps the time of one call; ``chunk`` is told of every part of a product, ``product`` of every whole one."""

    def __init__(
        self,
        call: str,
        deadline: float | None,
        progress: Progress,
        on_interrupt: OnInterrupt = "raise",
        ranks: Ranks | None = None,
    ) -> None:
        if deadline is not None:
            require_positive("deadline", deadline, "it is a number of seconds")
        require_one_of("on_interrupt", on_interrupt, get_args(OnInterrupt))
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise InputError(f"progress must be True, False or a function, received {progress!r}; choose one")
        self.call, self.deadline, self.returns = call, deadline, on_interrupt == "return"
        self._progress = progress
        self._began = self._product_began = time.perf_counter()
        self._last_line = 0.0
        self._each: float | None = None
        self.products = 0.0
        self.expected: float | None = None
        self.interrupted = False
        self._ranks, self._passed = ranks, False

    @property
    def seconds(self) -> float:
        """Seconds since the call began."""
        return time.perf_counter() - self._began

    @property
    def passed(self) -> bool:
        """Whether the deadline has passed."""
        if self.deadline is not None and not self._passed:
            self._passed = self.seconds >= self.deadline
            if self._ranks is not None:  # their clocks differ, and all must stop at the same product
                self._passed = any(passed for (passed,) in self._ranks.each([float(self._passed)]))
        return self._passed

    def chunk(self, share: float) -> None:
        """Take note that a share of the present product is done; raise `DeadlineReachedError` when it is time."""
        if self._each is None and share > 0:
            self._tell((time.perf_counter() - self._product_began) / share, "")
        if self._ranks is None and self.passed:  # several ranks stop between products
            raise DeadlineReachedError

    def product(self, count: float, note: str = "") -> None:
        """Take note that products are done."""
        now = time.perf_counter()
        self._each = (now - self._product_began) / count if count else self._each
        self._product_began = now
        self.products += count
        if self._each is not None and now - self._last_line >= EVERY:
            self._tell(self._each, note)

    def _tell(self, each: float, note: str) -> None:
        self._each = each
        asked = self._progress
        if asked is None:
            asked = each * ((self.expected or 10) - self.products) > UNASKED and sys.stderr.isatty()
        if asked is False or (self._ranks is not None and self._ranks.rank > 0):
            return
        self._last_line = time.perf_counter()
        state = CallProgress(self.call, self.products, self.expected, self.seconds, each, note)
        if callable(asked):
            asked(state)
        else:
            print(state, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    """Return a time as a reader would say it.

    >>> _duration(0.0312), _duration(42.3), _duration(200), _duration(20000)
    ('31 ms', '42 s', '3.3 min', '5.6 h')
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
