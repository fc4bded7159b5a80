"""Measures by name: one as an estimate, several as a tidy table."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import InputError
from sharpscope.estimate import Estimate, Result
from sharpscope.measures.registry import REGISTRY, Spec, checked
from sharpscope.objective.objective import Objective

SHOWN = ("measure", "value", "low", "high", "converged", "products", "seconds")
"""Columns that a printed table of measures shows; the others are there for whom they concern."""


class MeasureTable(Result, pd.DataFrame):  # type: ignore[misc]  # plot() is the chart of every result of ours
    """A table of measures: a data frame that prints its value and interval first and draws itself.

    Whatever is selected or computed from it is an ordinary `pandas.DataFrame`.

    >>> table = MeasureTable([{"measure": "trace", "value": 4.0, "low": 3.5, "high": 4.5, "fingerprint": "0" * 64}])
    >>> print(table)
    measure  value  low  high
      trace    4.0  3.5   4.5
    >>> type(table[["measure", "fingerprint"]]).__name__
    'DataFrame'
    """

    def __repr__(self) -> str:
        """Return the columns that are read first, without the row numbers."""
        return str(self._first().to_string(index=False))

    def _repr_html_(self) -> str:
        return str(self._first().to_html(index=False, border=0))

    def _first(self) -> pd.DataFrame:
        return pd.DataFrame(self)[[name for name in SHOWN if name in self.columns]]


def take(obj: Objective, spec: Spec, seed: int = 0) -> Estimate:
    """Take one measure of an objective; ``seed`` applies unless the spec sets its own.

    A measure over batches of so many samples is one over all the data where the spec gives no ``batch_size`` and no
    batches can be drawn: of fewer samples, or from `Objective.from_batch_loss`.
    """
    _, found, options = checked(spec)
    if "seed" in found.options:
        options.setdefault("seed", seed)
    if "batch_size" in found.options and "batch_size" not in options:
        usual = inspect.signature(found.function).parameters["batch_size"].default
        if isinstance(usual, int) and (obj.evaluator.loss is None or usual > obj.n_samples):
            options["batch_size"] = None
    return found.function(obj, **options)


def row(label: str, estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as one flat, JSON-ready table row; ``stderr`` is null where nothing is random."""
    low, high = estimate.interval(0.95)
    return {
        "measure": label,
        "value": estimate.value,
        "low": low,
        "high": high,
        "definition": estimate.measure,
        "stderr": estimate.stderr,
        "error": estimate.error,
        "samples": estimate.samples,
        "converged": estimate.converged,
        "losses": float(estimate.cost.get("losses", 0)),
        "gradients": float(estimate.cost.get("gradients", 0)),
        "products": float(estimate.cost.get("products", 0)),
        "seconds": float(estimate.cost.get("seconds", 0.0)),
        "protocol": json.dumps(estimate.protocol, sort_keys=True),
        "fingerprint": estimate.fingerprint,
    }


def measure(
    obj: Objective,
    measures: Sequence[Spec] | str = "all",
    *,
    seed: int = 0,
    strict: bool | None = None,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> MeasureTable:
    """Take measures of one objective and return a tidy table, one row per measure.

    Parameters
    ----------
    measures
        Names, or dicts ``{"measure": name, "name": label, **options}``; ``"all"`` for every registered one.
    seed
        Seed of the random estimates.
    strict
        Whether a measure that this objective does not allow raises, for example one that rescales channels where
        there are none. Otherwise its row has no value, its protocol holds the reason, and the rows of the others are
        kept. By default only a measure asked for alone raises; of several a warning names those not taken.
    deadline, progress, on_interrupt
        As for `sharpscope.top_eigenvalues`. The measure under way returns what it has where it can; those after it
        have rows without a value, whose protocol holds the reason.

    Returns
    -------
    MeasureTable
        A `pandas.DataFrame` with the columns measure (label), value, low, high (95 %), definition, stderr, error,
        samples, converged, losses, gradients, products, seconds, protocol (JSON), fingerprint.

    Raises
    ------
    InputError
        For an unknown measure or option, before anything is computed; with ``strict`` also what a measure raises.

    """
    specs: Sequence[Spec] = (
        list(REGISTRY) if measures == "all" else [measures] if isinstance(measures, str) else measures
    )
    labels = [checked(spec)[0] for spec in specs]
    raises = len(specs) == 1 if strict is None else strict
    estimate = take if raises else _take_or_reason
    limits = CallLimits("measure", obj, deadline, progress, on_interrupt, unit="measure", expected=len(specs))
    rows: list[dict[str, Any]] = []
    with limits.until_it_ends():
        for label, spec in zip(labels, specs, strict=True):
            limits.check()
            limits.note = f"{label}, measure {len(rows) + 1} of {len(specs)}"
            rows.append(row(label, estimate(limits.over, spec, seed)))
            limits.count(1, label)
    for label, spec in zip(labels[len(rows) :], specs[len(rows) :], strict=True):
        rows.append(row(label, _without_value(obj, spec, limits.ended)))
    lost = [r["measure"] for r in rows if "not taken" in json.loads(r["protocol"])]
    if lost and (limits.ended or (strict is None and measures != "all")):
        why = limits.ended or "the protocol of each says why"
        warnings.warn(f"not taken: {', '.join(lost)}; {why}", stacklevel=2)
    return MeasureTable(rows)


def _take_or_reason(obj: Objective, spec: Spec, seed: int) -> Estimate:
    try:
        return take(obj, spec, seed)
    except InputError as error:
        return _without_value(obj, spec, str(error))


def _without_value(obj: Objective, spec: Spec, why: str) -> Estimate:
    name = checked(spec)[1].name
    return Estimate(name, math.nan, converged=False, protocol={"not taken": why}, fingerprint=obj.fingerprint)
