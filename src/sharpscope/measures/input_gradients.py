"""How strongly the outputs depend on the inputs: geometric complexity and the input-output Jacobian."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.outputs import require_outputs
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective


@register(
    "geometric_complexity",
    title="Geometric complexity",
    symbol="E ‖∂f/∂x‖²_F",
    definition="Mean over the samples of the squared Frobenius norm of the outputs' Jacobian in the inputs.",
    source="Dherin et al. 2022",
    unit="(output / input)²",
    cost="1 input gradient for each output",
    rescaling_invariant=True,
)
def geometric_complexity(obj: Objective) -> Estimate:
    """Return (1/N) Σ_i ‖∂f(x_i)/∂x‖²_F, f the outputs before the loss (logits), exactly.

    Raises `InputError` where samples interact, inputs are not floating point, or outputs are not one tensor.
    """
    return _jacobian("geometric_complexity", obj, probabilities=False)


@register(
    "input_jacobian",
    title="Norm of the input-output Jacobian",
    symbol="E ‖∂p/∂x‖_F",
    definition="Mean over the samples of the Frobenius norm of the class probabilities' Jacobian in the inputs.",
    source="Novak et al. 2018",
    unit="1 / input",
    cost="1 input gradient for each output",
    rescaling_invariant=True,
)
def input_jacobian(obj: Objective) -> Estimate:
    """Return (1/N) Σ_i ‖∂ softmax(f(x_i))/∂x‖_F, exactly; raises as `geometric_complexity`."""
    return _jacobian("input_jacobian", obj, probabilities=True)


def _jacobian(measure: str, obj: Objective, probabilities: bool) -> Estimate:
    require_outputs(obj, measure)
    evaluator = obj.evaluator
    if not evaluator.separable:
        raise InputError(
            f"{measure} needs samples that do not interact, received an objective in train mode; use mode='eval'"
        )
    cost, most = CostMeter(obj), 0

    def squares_of_chunk(batch: Any, weights: Tensor | None) -> Tensor:
        nonlocal most
        inputs, targets = batch
        if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
            raise InputError(
                f"{measure} needs floating-point inputs, received others; tokens have no Jacobian"
            )
        x = inputs.detach().requires_grad_()
        outputs, _ = evaluator.outputs_and_loss((x, targets), weights)
        if not isinstance(outputs, Tensor):
            raise InputError(
                f"{measure} needs a model that returns one tensor, received {type(outputs).__name__}; wrap the model"
            )
        flat = outputs.softmax(-1) if probabilities else outputs
        flat = flat.reshape(len(x), -1)  # (n, outputs)
        most = max(most, flat.shape[1])
        squares = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        if not flat.requires_grad:  # outputs that do not depend on the inputs
            return squares
        for k in range(flat.shape[1]):
            (slope,) = torch.autograd.grad(flat[:, k].sum(), x, retain_graph=True)
            squares += slope.detach().reshape(len(x), -1).double().square().sum(1)
        return squares

    chunks = list(
        evaluator.of_one_process().each_chunk(squares_of_chunk, evaluator.leaves(grad=False), grad=True)
    )
    evaluator.cost.gradients += most
    each = torch.cat(chunks)
    value = float((each.sqrt() if probabilities else each).mean())
    return Estimate(measure, value, cost=cost.total(), protocol=obj.protocol, fingerprint=obj.fingerprint)
