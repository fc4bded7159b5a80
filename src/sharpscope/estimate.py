"""A number with its error, cost, convergence, protocol and fingerprint; and the meter that measures the cost."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Protocol


class Result:
    """What every result offers beside its numbers: one line of text, a chart, and HTML for a notebook."""

    def plot(self) -> Any:
        """Return an Altair chart of the result; ``.save("chart.svg")`` writes it."""
        from importlib import import_module

        return import_module("sharpscope.examination.plots").plot(self)

    def _repr_html_(self) -> str:
        from importlib import import_module

        return str(import_module("sharpscope.examination.plots").as_html(self))


def with_error(value: float, error: float) -> str:
    """Return a value with its error, both to the digits that the error leaves.

    >>> with_error(3.7556, 0.0012), with_error(120.4, 0.6), with_error(0.0, 0.0), with_error(2.5, float("nan"))
    ('3.756 ± 0.001', '120.4 ± 0.6', '0 ± 0', '2.5 ± –')
    """
    if not (math.isfinite(error) and error > 0 and math.isfinite(value)):
        return f"{value:.4g} ± {'0' if error == 0 else '–' if math.isnan(error) else format(error, '.1g')}"
    digits = -math.floor(math.log10(error))
    if digits > 8 or digits < -6:
        return f"{value:.4g} ± {error:.1g}"
    places = max(digits, 0)
    return f"{round(value, digits):.{places}f} ± {round(error, digits):.{places}f}"


@dataclass(frozen=True)
class Estimate(Result):
    """One measured value.

    Attributes
    ----------
    measure
        Name of the definition.
    value
        The estimate; ``inf`` where a perturbed loss overflowed.
    stderr
        Standard error of a random estimate, else None.
    error
        Error estimate of a deterministic one (an eigenvalue), else None.
    samples
        Independent draws behind ``stderr`` (antithetic pairs count once), else None.
    converged
        Whether the requested accuracy was reached.
    cost
        Full-data ``losses``, ``gradients`` and ``products`` spent, and ``seconds``.
    protocol
        Every choice that defines the number: radius, samples, seed, mode, precision and so on.
    fingerprint
        `Objective.fingerprint` of what was measured.

    Examples
    --------
    >>> e = Estimate.of_samples("x", [1.0, 2.0, 3.0], {}, {}, "")
    >>> e.value, round(e.stderr, 4)
    (2.0, 0.5774)
    >>> [round(end, 3) for end in e.interval(0.95)]
    [-0.484, 4.484]

    """

    measure: str
    value: float
    stderr: float | None = None
    error: float | None = None
    samples: int | None = None
    converged: bool = True
    cost: Mapping[str, float] = field(default_factory=dict)
    protocol: Mapping[str, object] = field(default_factory=dict)
    fingerprint: str = ""

    def __repr__(self) -> str:
        """Return one line: the value, its standard error or error estimate, and whether it converged.

        >>> Estimate("trace", 183.47, stderr=2.4, samples=16)
        trace = 183 ± 2
        >>> Estimate("lambda_max", 3.7556, error=0.0012, converged=False)
        lambda_max = 3.756 ± 0.001, not converged
        """
        error = self.stderr if self.stderr is not None else self.error
        value = f"{self.value:.6g}" if error is None else with_error(self.value, error)
        return f"{self.measure} = {value}{'' if self.converged else ', not converged'}"

    @classmethod
    def of_samples(
        cls,
        measure: str,
        draws: Sequence[float],
        cost: Mapping[str, float],
        protocol: Mapping[str, object],
        fingerprint: str,
        converged: bool = True,
    ) -> Estimate:
        """Return the mean of independent draws with its standard error s/√n."""
        n = len(draws)
        mean = math.fsum(draws) / n if all(map(math.isfinite, draws)) else sum(draws) / n
        spread = math.sqrt(math.fsum((d - mean) ** 2 for d in draws) / (n - 1)) if n > 1 else math.nan
        finite = math.isfinite(mean)
        return cls(
            measure=measure,
            value=mean,
            stderr=spread / math.sqrt(n) if finite else math.nan,
            samples=n,
            converged=converged and finite,
            cost=cost,
            protocol=protocol,
            fingerprint=fingerprint,
        )

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return an interval for the true value.

        A random estimate's interval uses Student's t with ``samples - 1`` degrees of freedom. A deterministic
        one's is value ± error estimate at every level, and the value itself where the computation is exact.
        """
        if self.stderr is not None:
            from scipy.stats import t

            if not (self.samples and self.samples > 1 and math.isfinite(self.stderr)):
                return (math.nan, math.nan)
            half = float(t.ppf(0.5 + level / 2, self.samples - 1)) * self.stderr
            return (self.value - half, self.value + half)
        half = self.error or 0.0
        return (self.value - half, self.value + half)


class Counted(Protocol):
    """What counts its own evaluations, as `sharpscope.Objective` does."""

    @property
    def cost(self) -> Any:
        """Counts with a method ``since(before) -> dict``."""


class CostMeter:
    """Measures what a computation costs: evaluations counted by an objective, and seconds, from construction on.

    ``part`` objectives hold a share of the data and count for themselves; `include` adds what they spend from then
    on as that share of full evaluations.

    >>> sorted(CostMeter().total())
    ['seconds']
    """

    def __init__(self, counted: Counted | None = None) -> None:
        self._began = time.perf_counter()
        self._counted = counted
        self._before = None if counted is None else copy(counted.cost)
        self._parts: list[tuple[Any, Any, float]] = []

    def include(self, part: Counted, share: float) -> None:
        """Count what ``part`` spends from now on as ``share`` of full evaluations."""
        self._parts.append((part.cost, copy(part.cost), share))

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since construction."""
        return time.perf_counter() - self._began

    def total(self) -> dict[str, float]:
        """Return losses, gradients and products in full evaluations (where an objective counts), and seconds."""
        counts: dict[str, float] = {} if self._counted is None else self._counted.cost.since(self._before)
        for share in dict.fromkeys(share for *_, share in self._parts):
            parts = [cost.since(before) for cost, before, of_part in self._parts if of_part == share]
            for name in parts[0]:
                counts[name] = counts.get(name, 0) + share * sum(part[name] for part in parts)
        return {**counts, "seconds": self.seconds}
