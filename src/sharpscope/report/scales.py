"""Which scale suits a set of values, with its domain and ticks: decided here, not by the drawing library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from typing import Any, Literal

Kind = Literal["linear", "log", "symlog", "ordinal"]

_WIDE = 20.0
"""Positive values whose largest is this many times the smallest are shown on a logarithmic scale."""

# Vega writes 0.00001 and 1000000 in full; past these bounds an exponent is easier to read.
LABEL = (
    "isNumber(datum.value) && datum.value != 0 && (abs(datum.value) < 0.001 || abs(datum.value) >= 100000)"
    " ? replace(replace(format(datum.value, '~e'), 'e+', 'e'), '-', '−')"
    " : isNumber(datum.value) ? format(datum.value, '~r') : datum.label"
)
"""The expression that writes an axis label."""


@dataclass(frozen=True)
class Scale:
    """A scale's kind, the domain it covers and where its ticks are; ``ticks`` empty leaves them to Vega."""

    kind: Kind
    domain: tuple[float, float] = (0.0, 1.0)
    ticks: tuple[float, ...] = ()
    constant: float = 1.0
    """The half-width of a symlog scale's linear part."""

    def as_vega(self) -> dict[str, Any]:
        """Return the scale as Vega-Lite writes it."""
        if self.kind == "ordinal":
            return {"padding": 0.25}
        scale: dict[str, Any] = {
            "type": self.kind,
            "domain": list(self.domain),
            "nice": False,
        }
        if self.kind == "linear":
            scale["zero"] = False
        if self.kind == "symlog":
            scale["constant"] = self.constant
        return scale

    def axis(self, **more: Any) -> dict[str, Any]:
        """Return the axis as Vega-Lite writes it, with this scale's ticks."""
        axis: dict[str, Any] = {"labelExpr": LABEL, "labelOverlap": True, "labelSeparation": 6, **more}
        if self.ticks:
            axis["values"] = list(self.ticks)
        return axis

    def clip(self, value: float) -> float:
        """Return the value moved into the domain."""
        return min(max(value, self.domain[0]), self.domain[1])

    def shifted(self, value: float, part: float) -> float:
        """Return the value moved along the scale by ``part`` of its length, so that marks stand apart."""
        low, high = self.domain
        if self.kind == "log":
            return float(value * (high / low) ** part)
        return value + part * (high - low) if self.kind == "linear" else value


def scale_of(values: Iterable[float]) -> Scale:
    """Return the scale for measured values: logarithmic where they are positive and span a factor of 20.

    Values of both signs (or zeros) whose largest is 20 times their median size get a symmetric logarithmic
    scale, linear about zero; everything else a linear one. Values that are not finite are ignored.

    >>> scale_of([1.0, 3.0]).kind, scale_of([0.01, 3.0]).kind, scale_of([-0.1, 0.0, 0.3, 90.0]).kind
    ('linear', 'log', 'symlog')
    >>> scale_of([0.01, 3.0]).ticks
    (0.01, 0.1, 1.0)
    """
    finite = sorted(float(value) for value in values if isfinite(value))
    if not finite:
        return Scale("linear")
    low, high = finite[0], finite[-1]
    sizes = sorted(abs(value) for value in finite if value != 0)
    if low > 0 and high / low >= _WIDE:
        pad = (high / low) ** 0.05
        domain = (low / pad, high * pad)
        return Scale("log", domain, log_ticks(*domain))
    if low <= 0 and sizes and sizes[-1] / sizes[len(sizes) // 2] >= _WIDE:
        # The smallest fifth shares the linear part: one stray 1e-17 must not stretch the axis.
        constant = 10.0 ** floor(log10(max(sizes[len(sizes) // 5], sizes[-1] * 1e-8)))
        domain = (low * 1.6 if low < 0 else -constant * 0.3, high * 1.6 if high > 0 else constant * 0.3)
        return Scale("symlog", domain, _symlog_ticks(*domain, constant), constant)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale("linear", (low - pad, high + pad))


def grid_scale(values: Sequence[object]) -> Scale:
    """Return the scale for a hyperparameter's grid: ordinal unless every value is a number.

    A positive grid of a factor of 4 and more is logarithmic, unless its steps are nearly even. Ticks stand
    at the grid's own values, up to ten of them.

    >>> grid_scale([0.001, 0.01, 0.1]).kind, grid_scale([0.0, 0.2, 0.5]).kind, grid_scale(["sgd"]).kind
    ('log', 'linear', 'ordinal')
    >>> grid_scale([1, 2, 3, 4, 5]).kind
    'linear'
    """
    if not is_numeric(values):
        return Scale("ordinal")
    grid = sorted({float(value) for value in values})  # type: ignore[arg-type]
    ticks = tuple(grid) if len(grid) <= 10 else ()
    low, high = grid[0], grid[-1]
    if low > 0 and high / low >= 4 and not _even(grid):
        pad = (high / low) ** 0.06
        domain = (low / pad, high * pad)
        return Scale("log", domain, ticks or log_ticks(*domain))
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale("linear", (low - pad, high + pad), ticks)


def is_numeric(values: Sequence[object]) -> bool:
    """Return whether every value is a finite number (and there is one)."""
    return bool(values) and all(
        not isinstance(value, str | bool) and hasattr(value, "__float__") and isfinite(float(value))
        for value in values
    )


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return ticks for a logarithmic axis: powers of ten, with 2 and 5 between where the axis is short.

    >>> log_ticks(0.5, 30)
    (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
    >>> log_ticks(1e-9, 1e3)
    (1e-08, 1e-06, 0.0001, 0.01, 1.0, 100.0)
    """
    decades = log10(high / low)
    exponents = range(floor(log10(low)), ceil(log10(high)) + 1)
    step = max(1, ceil(decades / 6))
    steps = (1.0, 2.0, 5.0) if decades < 2 else (1.0,)
    ticks = [float(f"{m:.0f}e{e}") for e in exponents if e % step == 0 for m in steps]
    return tuple(tick for tick in ticks if low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9))


def _symlog_ticks(low: float, high: float, constant: float) -> tuple[float, ...]:
    positive = log_ticks(constant, high) if high > constant else ()
    negative = log_ticks(constant, -low) if -low > constant else ()
    return (*(-tick for tick in reversed(negative)), 0.0, *positive)


def _even(grid: Sequence[float]) -> bool:
    steps = [b - a for a, b in pairwise(grid)]
    return len(grid) > 2 and max(steps) <= 1.5 * min(steps)
