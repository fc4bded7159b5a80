"""A curvature measure of every layer's block of the Hessian, and the layer where it is largest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sharpscope.curvature.by_layer import layers_of, trace_by_layer
from sharpscope.curvature.operators import Matrix
from sharpscope.errors import InputError
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import find, register
from sharpscope.objective.objective import Objective
from sharpscope.objective.views import view_of


@register(
    "by_layer",
    title="The most curved layer",
    symbol="max_ℓ tr H_ℓℓ",
    definition="The largest value over the layers of a curvature measure, the trace unless stated, of each layer's "
    "own block of the Hessian; the protocol has every layer's.",
    source="Yao et al. 2020 (PyHessian); Zhang et al. 2024 (Adam-mini)",
    unit="loss / parameter²",
    cost="16 products; of another measure its cost for every layer",
)
def by_layer(
    obj: Objective,
    of: str = "trace",
    options: Mapping[str, Any] | None = None,
    samples: int = 16,
    seed: int = 0,
    *,
    matrix: Matrix = "hessian",
    normalise_logits: bool = False,
) -> Estimate:
    """Return the largest value of the measure ``of`` over the layers' diagonal blocks H_ℓℓ, others held fixed.

    A layer is a module that holds parameters of its own, see `sharpscope.curvature.by_layer.layers_of`. The traces of
    all layers come from the same ``samples`` products. Any other measure that takes ``params``, such as
    ``"lambda_max"``, ``"frobenius_norm"`` or ``"worst_case"``, is taken of each layer with its ``options``; it is
    invariant where that measure is. The largest of several random values is biased upwards by their noise: the
    standard error is that of the one found largest.

    Raises `InputError` for a measure that takes no ``params``.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False)).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(model, half_square, (x, torch.zeros(2, 1)))
    >>> round(by_layer(obj).value, 6), round(by_layer(obj, "lambda_max").value, 6)
    (4.0, 3.0)

    """
    cost = CostMeter(obj)
    view, chosen = view_of(obj, normalise_logits=normalise_logits)
    layers = layers_of(view)
    if of == "trace" and not options:
        found = trace_by_layer(view, probes=samples, seed=seed, matrix=matrix)
        estimates = [
            Estimate("trace", float(value), stderr=float(error), samples=found.probes)
            for value, error in zip(found.values, found.stderrs, strict=True)
        ]
    else:
        estimates = _of_each(view, of, dict(options or {}), layers, seed, matrix)
    values = [e.value for e in estimates]
    top = max(range(len(values)), key=lambda i: -math.inf if math.isnan(values[i]) else values[i])
    largest = estimates[top]
    return Estimate(
        "by_layer",
        largest.value,
        stderr=largest.stderr,
        error=largest.error,
        samples=largest.samples,
        converged=all(e.converged for e in estimates),
        cost=cost.total(),
        protocol={
            "of": of,
            "options": dict(options or {}),
            "matrix": matrix,
            "seed": seed,
            "layer": list(layers)[top],
            "values": dict(zip(layers, values, strict=True)),
            "errors": {
                layer: e.error if e.stderr is None else e.stderr
                for layer, e in zip(layers, estimates, strict=True)
            },
            **chosen,
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
    )


def _of_each(
    view: Objective,
    of: str,
    options: dict[str, Any],
    layers: Mapping[str, list[str]],
    seed: int,
    matrix: Matrix,
) -> list[Estimate]:
    """Return the measure of every layer; those that random numbers or a matrix decide take these."""
    known = find(of)
    if of == "by_layer" or "params" not in known.options:
        raise InputError(
            f"of must name a measure that takes params, received {of!r}; for example 'trace' or 'lambda_max'"
        )
    given = {"seed": seed, "matrix": matrix}
    options = {key: value for key, value in given.items() if key in known.options} | options
    return [known.function(view, params=names, **options) for names in layers.values()]
