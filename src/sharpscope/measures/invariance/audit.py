"""The invariance audit: which measures change when the network's function does not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import InputError, NotConvergedWarning
from sharpscope.estimate import Result
from sharpscope.measures.invariance.attention import HeadPair, find_head_pairs, mixed
from sharpscope.measures.invariance.rescaling import Rescaling, find_rescalings, rescale
from sharpscope.measures.registry import Measure, Spec, checked
from sharpscope.measures.table import take
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

INVARIANT = 1e-4
"""Largest relative change of a measure that counts as none."""

COSTS = ("losses", "gradients", "products", "seconds")

SAME_FUNCTION = 1e-9
"""Largest change of the loss, relative to it, that counts as rounding in float64."""


_BALL: dict[str, Any] = {"measure": "worst_case", "batch_size": None}

USUAL: tuple[Spec, ...] = (
    {"measure": "geodesic_sharpness", "batch_size": None},
    {**_BALL, "name": "worst_case_adaptive", "radius": 0.01},
    {**_BALL, "name": "worst_case_plain_steps", "radius": 0.01, "step_size": 0.05},
    {**_BALL, "name": "worst_case_l2", "radius": 0.05, "norm": "l2", "adaptive": False},
    {"measure": "average_direction", "name": "average_direction_adaptive", "samples": 8, "adaptive": True},
    {"measure": "average_direction", "samples": 8},
    "sam_step",
    {"measure": "lambda_max", "tol": 0.05},
    {"measure": "trace", "samples": 4},
    "gradient_norm",
)
"""The default of an audit: one measure of every kind, with few random draws.

Few draws are enough because the same ones are used before and after a rescaling.
"""


@dataclass(frozen=True)
class Audit(Result):
    """The result of an audit.

    ``table`` has one row per measure with the columns measure, value (of the model as it is), changed (a list: the
    relative change under each random rescaling), largest, invariant (largest ≤ 1e-4: the measure can be compared
    between models that are scaled differently), exact_in_theory, and what all its values cost. ``rescalings`` are
    those found, ``heads`` the pairs of attention's weights with a GL(h) symmetry. ``function_change`` is the largest
    relative change of the loss and the outputs over all of them; only rounding makes it differ from zero.
    """

    table: pd.DataFrame
    rescalings: tuple[Rescaling, ...]
    function_change: float
    spread: float
    seed: int
    heads: tuple[HeadPair, ...] = ()

    def __repr__(self) -> str:
        """Return one line: how many measures stand still."""
        still = int(self.table["invariant"].sum())
        count = len(self.rescalings)
        places = (
            [f"rescalings in {count} place{'' if count == 1 else 's'}"] if count or not self.heads else []
        )
        places += [f"GL(h) in {len(self.heads)} pairs of attention's weights"] if self.heads else []
        return f"{still} of {len(self.table)} measures stand still under {' and '.join(places)}"


def audit(
    obj: Objective,
    measures: Sequence[Spec] | None = None,
    *,
    repetitions: int = 2,
    spread: float = 4.0,
    seed: int = 0,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Audit:
    """Reparametrise a network at random without changing its function, and report how each measure changes.

    Channels are rescaled by factors log-uniform in [1/``spread``, ``spread``] (Dinh et al. 2017 use such factors to
    make any minimum arbitrarily sharp). Between the query and key weights of every head of attention, and between its
    value and output weights, random invertible matrices are put (W_q → W_q A, W_k → W_k A^{-T}; da Silva et al.
    2025), with singular values in the same range; see `sharpscope.measures.invariance.attention`. Everything is
    measured on copies, with the same seeds before and after. Measures that are invariant by definition are computed
    in float64, so that rounding does not hide the invariance; the others in the objective's own precision.

    Parameters
    ----------
    measures
        As in `measure`; by default `USUAL`. A few samples of data are enough: invariance does not depend on the data.
    repetitions
        Number of random rescalings.
    deadline, progress, on_interrupt
        As for `sharpscope.top_eigenvalues`, the unit a measurement. What is returned early has fewer measures.

    Raises
    ------
    InputError
        If time ends before the first measure is done, the model cannot be traced, no rescaling is found, or one
        changes the outputs.

    Examples
    --------
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch._C.Generator object at ...>
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    >>> obj = Objective(model, torch.nn.functional.cross_entropy, (torch.randn(9, 3), torch.arange(9) % 2))
    >>> found = audit(obj, ["gradient_norm", {"measure": "worst_case", "batch_size": None, "radius": 0.01}])
    >>> found.table["invariant"].tolist()
    [False, True]

    """
    import pandas as pd

    if repetitions < 1 or not (math.isfinite(spread) and spread > 1):
        raise InputError(
            f"repetitions must be at least 1 and spread above 1, received {repetitions} and {spread}; 2 and 4 serve"
        )
    specs = list(USUAL if measures is None else measures)
    labels = [checked(spec)[0] for spec in specs]
    heads = find_head_pairs(obj)
    try:
        found = find_rescalings(obj.model)
    except InputError:
        if not heads:
            raise
        found = []  # a transformer that cannot be traced
    if not found and not heads:
        raise InputError(
            f"an audit needs channels between layers that commute with positive factors, or heads of attention, "
            f"{type(obj.model).__name__} has none that tracing finds (ReLU, pooling, batch normalisation in eval "
            "mode) or that go by their usual names; nothing to rescale"
        )
    total = len(specs) * (1 + repetitions)
    limits = CallLimits("audit", obj, deadline, progress, on_interrupt, unit="measurement", expected=total)
    start = limits.over.with_copy(torch.float64)
    exact, worst = [start], 0.0
    for repetition in range(repetitions):
        factors = [
            spread
            ** (
                2 * torch.rand(group.channels, generator=generator("audit", seed, repetition, i)).double() - 1
            )
            for i, group in enumerate(found)
        ]
        moved = rescale(start.model, found, factors)
        if heads:
            moved = mixed(moved, heads, spread, generator("audit", seed, repetition, "attention"))
        exact.append(start.with_copy(torch.float64, moved))
        worst = max(worst, _function_change(start, exact[-1]))
    own = exact if obj.dtype == torch.float64 else [one.with_copy(obj.dtype) for one in exact]
    rows: list[dict[str, Any]] = []

    def add(label: str, spec: Spec) -> None:
        _, known, options = checked(spec)
        exact_in_theory = _exact(known, options)
        estimates = []
        for one in exact if exact_in_theory else own:
            limits.check()
            estimates.append(take(one, spec, seed))
            limits.count(1, label)
        value = estimates[0].value
        changes = [_relative(value, e.value) for e in estimates[1:]]
        rows.append(
            {
                "measure": label,
                "value": value,
                "changed": changes,
                "largest": max(changes),
                "invariant": max(changes) <= INVARIANT,
                "exact_in_theory": exact_in_theory,
                **{name: sum(e.cost.get(name, 0) for e in estimates) for name in COSTS},
            }
        )

    with limits.until_it_ends():
        for spec, label in zip(specs, labels, strict=True):
            add(label, spec)
    if not rows:
        raise InputError(f"audit must be given time for one measure, here {limits.ended}; raise the deadline")
    if len(rows) < len(specs):
        warnings.warn(
            f"{limits.ended} after {len(rows)} of {len(specs)} measures; raise the deadline",
            NotConvergedWarning,
            stacklevel=2,
        )
    return Audit(pd.DataFrame(rows), tuple(found), worst, spread, seed, tuple(heads))


def _exact(known: Measure, options: dict[str, Any]) -> bool:
    """Return whether the definition is invariant: adaptive, and without plain gradient steps."""
    if known.name == "average_direction":
        return bool(options.get("adaptive"))
    plain_steps = options.get("step_size") is not None and options.get("direction", "gradient") == "gradient"
    return known.rescaling_invariant and bool(options.get("adaptive", True)) and not plain_steps


def _function_change(before: Objective, after: Objective) -> float:
    """Return the largest relative change of loss and outputs; raise `InputError` where it is more than rounding."""
    old, new = before.loss(), after.loss()
    change = _relative(old, new)
    if change <= SAME_FUNCTION and before.evaluator.loss is not None and before.mode == "eval":
        inputs, _ = before.evaluator.placed(before.evaluator.first_batch())
        for one in (before.model, after.model):
            one.eval()
        with torch.no_grad():
            outputs = [one(inputs[:256]) for one in (before.model, after.model)]
        change = max(change, float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max()))
    if not change <= SAME_FUNCTION * (1 if before.mode == "eval" else 1e6):
        raise InputError(
            f"a rescaling must leave the function as it is, this model's changed by {change:.3g}; "
            "it does something between its layers that tracing does not show"
        )
    return change


def _relative(before: float, after: float) -> float:
    if before == after:
        return 0.0
    return abs(after - before) / abs(before) if before else math.inf
