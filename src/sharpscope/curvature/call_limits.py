"""What a long call may be told: when to stop, whom to tell how far it is, what to do when it is interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Literal, get_args

from sharpscope.autograd.ranks import Ranks
from sharpscope.errors import InputError, require_one_of, require_positive
from sharpscope.objective.measured_function import ChunkWatcher, MeasuredFunction
from sharpscope.objective.objective import Objective

OnInterrupt = Literal["raise", "return"]

UNASKED = 60.0
"""Seconds that a call must be expected to take before it reports to a terminal without being asked to."""

INTERRUPTED = "it was interrupted"
"""Why a call ended that Ctrl-C ended."""

EVERY = 5.0
"""Least seconds between two printed lines."""


@dataclass(frozen=True)
class CallProgress:
    """How far a call is.

    Attributes
    ----------
    call
        The function called.
    done, expected
        How many ``unit`` are done, and about how many it will be in all; None where that cannot be told.
    unit
        What is counted: a ``product`` with all the data, a ``pass`` over it, a ``point``, a ``measure``.
    seconds, seconds_each
        Since the call began, and what one unit takes: estimated from the first chunk of data until one is done.
    note
        The value as it stands, or what is being done, in words.

    """

    call: str
    done: float
    expected: float | None
    unit: str
    seconds: float
    seconds_each: float
    note: str = ""

    def __str__(self) -> str:
        """Return one line: what a unit takes, how many are done and to come, and when that will be."""
        line = f"{self.call}: a {self.unit} takes about {_duration(self.seconds_each)}, {self.done:.0f} done"
        if self.expected is not None:
            to_come = max(self.expected - self.done, 0)
            line += f", about {to_come:.0f} to come ({_duration(to_come * self.seconds_each)})"
        return f"{line}; {self.note}" if self.note else line


Progress = Callable[[CallProgress], object] | bool | None
"""A function that is given a `CallProgress` after every unit; True prints it to stderr, at most every five seconds,
False never; None prints it where a terminal is attached and the call is expected to take over a minute."""

LIMITS = ("deadline", "progress", "on_interrupt")
"""The options of a long call that say nothing of what is measured."""


class DeadlineReachedError(Exception):
    """The deadline passed in the middle of a call."""


class CallLimits:
    """Keeps the time of one call on an objective.

    The call evaluates `over`: every chunk of data is then told of, whether it belongs to a loss, a gradient or a
    product. Units are counted by `count`, or with ``unit="pass"`` by the chunks themselves, those of a part of the
    data by its share. ``in_one`` units begin together in one pass, as the vectors of a block do.

    A call inside another, as a measure inside `sharpscope.measure`, also keeps the outer one's deadline, and tells
    whom the outer one tells. Whoever watched the objective before is told of every chunk first. Where the units are
    no passes over the data, such as measures, what a pass takes is told first.
    """

    def __init__(
        self,
        call: str,
        obj: Objective,
        deadline: float | None = None,
        progress: Progress = None,
        on_interrupt: OnInterrupt = "raise",
        *,
        unit: str = "product",
        expected: float | None = None,
    ) -> None:
        if deadline is not None:
            require_positive("deadline", deadline, "it is a number of seconds")
        require_one_of("on_interrupt", on_interrupt, get_args(OnInterrupt))
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise InputError(f"progress must be True, False or a function, received {progress!r}; choose one")
        self.call, self.deadline, self.returns = call, deadline, on_interrupt == "return"
        self.unit, self.expected, self.note = unit, expected, ""
        self.done, self.in_one = 0.0, 1.0
        self.ended = ""
        watch = getattr(obj.evaluator.watch, "__self__", None)
        self._outer = watch if isinstance(watch, CallLimits) else None
        self._listener: ChunkWatcher | None = (
            obj.evaluator.watch if self._outer is None else self._outer._listener
        )
        inherits = progress is None and self._outer is not None
        self.progress: Progress = self._outer.progress if inherits and self._outer is not None else progress
        self._batches, self._shares = obj.evaluator.batches, dict[int, tuple[object, float]]()
        self._counts: dict[int, tuple[object, int | None, int]] = {}  # batches, chunk size, chunks
        self._began = self._unit_began = time.perf_counter()
        self._last_line = 0.0
        self._each: float | None = None
        self._guessed = False
        shared = obj.evaluator.distribution
        self._ranks: Ranks | None = None if shared is None else shared.ranks
        self._passed = False
        self.over = copy(obj)
        self.over.evaluator = copy(obj.evaluator)
        self.over.evaluator.watch = self.chunk

    @property
    def seconds(self) -> float:
        """Seconds since the call began."""
        return time.perf_counter() - self._began

    @property
    def passed(self) -> bool:
        """Whether the deadline, or that of an outer call, has passed."""
        if self.deadline is not None and not self._passed:
            self._passed = self.seconds >= self.deadline
            if self._ranks is not None:  # their clocks differ, and all must stop at the same place
                self._passed = any(passed for (passed,) in self._ranks.each([float(self._passed)]))
        return self._passed or (self._outer is not None and self._outer.passed)

    @property
    def why(self) -> str:
        """The deadline that has passed, in words."""
        if self._outer is not None and self._outer.passed:
            return self._outer.why
        return f"deadline={self.deadline:g} passed"

    @contextmanager
    def until_it_ends(self) -> Iterator[None]:
        """Run a block until it is done or time is up, or it is interrupted and may return; ``ended`` says why."""
        try:
            yield
        except DeadlineReachedError:
            self.ended = self.why
        except KeyboardInterrupt:
            if not self.returns:
                raise
            self.ended = INTERRUPTED

    def check(self) -> None:
        """Raise `DeadlineReachedError` when it is time."""
        if self.passed:
            raise DeadlineReachedError

    def chunk(self, evaluator: MeasuredFunction, done: int, of: int | None) -> None:
        """Take note that ``done`` of a pass's ``of`` chunks are done, of as many as usual for None; see `check`."""
        if self._listener is not None:
            self._listener(evaluator, done, of)
        own = evaluator.batches is self._batches
        if not (done and own):
            self._unit_began = time.perf_counter()  # what went before was no part of a whole pass
        if not done:
            guess = getattr(evaluator, "seconds_per_product", None)
            if own and guess is not None and self.unit == "product" and not self._guessed:
                self._each, self._guessed = guess, True
                self._tell()
        elif self.unit == "pass":
            self.done += self.in_one * self._share(evaluator) / (of or self._chunks(evaluator))
            self._each = self.seconds / self.done if self.done else None  # a rank may hold no data
            self._tell()
        elif own and (self._each is None or (self._guessed and not self.done)):
            self._guessed = False
            left = (of or self._chunks(evaluator)) / done
            self._each = (time.perf_counter() - self._unit_began) * left / self.in_one
            self._tell(self.unit if self.unit in ("product", "point") else "pass")
        if self._ranks is None:  # several ranks stop where all of them are, between products
            self.check()

    def count(self, units: float, note: str = "") -> None:
        """Take note that units are done."""
        now = time.perf_counter()
        self.done += units
        if units:
            self._each = (
                (now - self._unit_began) / units if self.unit == "product" else self.seconds / self.done
            )
        self._unit_began = now
        self.note = note
        if self._each is not None:
            self._tell()

    def _chunks(self, evaluator: MeasuredFunction) -> int:
        """Return how many chunks a pass over an evaluator's data has."""
        size, batches = evaluator.chunk_size, evaluator.batches
        known = self._counts.get(id(batches))
        if known is None or known[1] != size:
            counts = [-(-len(targets) // size) for _, targets in batches] if size else []
            known = self._counts[id(batches)] = batches, size, max(sum(counts) or batches.count, 1)
        return known[2]

    def _share(self, evaluator: MeasuredFunction) -> float:
        """Return the share of the data that an evaluator looks at."""
        known = self._shares.get(id(evaluator.batches))
        if known is None:
            whole, part = (
                sum(len(targets) for _, targets in batches) if evaluator.loss is not None else batches.count
                for batches in (self._batches, evaluator.batches)
            )
            known = self._shares[id(evaluator.batches)] = (evaluator.batches, part / max(whole, 1))
        return known[1]

    def _tell(self, unit: str = "") -> None:
        unit = unit or self.unit
        each, asked = self._each or 0.0, self.progress
        if asked is None:
            asked = each * ((self.expected or 10) - self.done) > UNASKED and sys.stderr.isatty()
        waited = time.perf_counter() - self._last_line >= EVERY
        silent = self._ranks is not None and self._ranks.rank > 0
        if silent or asked is False or not (waited or (callable(asked) and self.unit != "pass")):
            return
        self._last_line = time.perf_counter()
        expected = self.expected if unit == self.unit else None
        state = CallProgress(self.call, self.done, expected, unit, self.seconds, each, self.note)
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
