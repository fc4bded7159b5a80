"""Measures by name: one as an estimate, several as a tidy table."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError
from sharpscope.estimate import Estimate
from sharpscope.measures.registry import REGISTRY, Spec, checked
from sharpscope.objective.objective import Objective

if TYPE_CHECKING:
    import pandas as pd


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
        "definition": estimate.measure,
        "value": estimate.value,
        "stderr": estimate.stderr,
        "error": estimate.error,
        "low": low,
        "high": high,
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
    obj: Objective, measures: Sequence[Spec] | str = "all", *, seed: int = 0, strict: bool | None = None
) -> pd.DataFrame:
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

    Returns
    -------
    DataFrame
        Columns measure (label), definition, value, stderr, error, low, high (95 %), samples, converged,
        losses, gradients, products, seconds, protocol (JSON), fingerprint.

    Raises
    ------
    InputError
        For an unknown measure or option, before anything is computed; with ``strict`` also what a measure raises.

    """
    import pandas as pd

    specs: Sequence[Spec] = (
        list(REGISTRY) if measures == "all" else [measures] if isinstance(measures, str) else measures
    )
    labels = [checked(spec)[0] for spec in specs]
    raises = len(specs) == 1 if strict is None else strict
    estimate = take if raises else _take_or_reason
    rows = [row(label, estimate(obj, spec, seed)) for label, spec in zip(labels, specs, strict=True)]
    lost = [r["measure"] for r in rows if "not taken" in json.loads(r["protocol"])]
    if lost and strict is None and measures != "all":
        warnings.warn(f"not taken: {', '.join(lost)}; the protocol of each says why", stacklevel=2)
    return pd.DataFrame(rows)


def _take_or_reason(obj: Objective, spec: Spec, seed: int) -> Estimate:
    try:
        return take(obj, spec, seed)
    except InputError as error:
        name = checked(spec)[1].name
        reason = {"not taken": str(error)}
        return Estimate(name, math.nan, converged=False, protocol=reason, fingerprint=obj.fingerprint)
