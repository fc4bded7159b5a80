"""Measures that are no sharpness: the controls that a sharpness measure has to beat (Jiang et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.autograd.module_state import preserved_random_state
from sharpscope.errors import InputError
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.outputs import logits_and_classes, require_outputs
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective

HOMOGENEOUS = 1e-4
"""Largest relative deviation from f(2x) = 2 f(x) of a bias-free network that counts as rounding."""


@register(
    "weight_norm",
    title="Norm of the weights",
    symbol="‖θ‖₂",
    definition="Euclidean norm of the measured parameters.",
    source="Jiang et al. 2020, equation 42 (its square)",
    unit="parameter",
    cost="none",
)
def weight_norm(obj: Objective) -> Estimate:
    """Return ‖θ‖₂ of the measured parameters.

    Jiang et al. use the square of the weights' norm without biases; leave biases out by ``params=`` for that.
    """
    cost = CostMeter()
    value = float(obj.flat().double().norm())
    return Estimate(
        "weight_norm", value, cost=cost.total(), protocol=obj.protocol, fingerprint=obj.fingerprint
    )


@register(
    "distance_from_initialisation",
    title="Distance from initialisation",
    symbol="‖θ − θ₀‖₂",
    definition="Euclidean distance of the measured parameters from those that training started from.",
    source="Jiang et al. 2020, equation 40 (its square)",
    unit="parameter",
    cost="none",
)
def distance_from_initialisation(
    obj: Objective, initial: str | Tensor | Mapping[str, Tensor] | nn.Module | None = None
) -> Estimate:
    """Return ‖θ − θ₀‖₂ for the ``initial`` weights θ₀.

    ``initial`` is a model of the same kind, its state dictionary, a flat vector (size,), or the path of a
    .safetensors file of weights.

    Raises
    ------
    InputError
        Without initial weights, or for weights of other names or shapes.

    Examples
    --------
    >>> model = nn.Linear(2, 1, bias=False)
    >>> obj = Objective(model, nn.functional.mse_loss, (torch.eye(2), torch.ones(2, 1)))
    >>> start = obj.flat() + torch.tensor([3.0, 4.0])
    >>> round(distance_from_initialisation(obj, start).value, 5)
    5.0

    """
    cost = CostMeter()
    distance = obj.flat().double() - _flat_initial(obj, initial).to(obj.device)
    return Estimate(
        "distance_from_initialisation",
        float(distance.norm()),
        cost=cost.total(),
        protocol=obj.protocol,
        fingerprint=obj.fingerprint,
    )


def _flat_initial(obj: Objective, initial: Any) -> Tensor:
    if initial is None:
        raise InputError(
            "distance_from_initialisation needs the weights that training started from, received none; pass "
            "initial= as a model, a state dictionary, a flat vector or the path of a .safetensors file"
        )
    if isinstance(initial, Tensor):
        obj.layout.split(initial)  # refuses a wrong length
        return initial.detach().double()
    if isinstance(initial, str | Path):
        from safetensors.torch import load_file

        try:
            initial = load_file(initial)
        except Exception as error:
            raise InputError(
                f"initial must be a .safetensors file of weights, {initial} cannot be read ({error})"
            ) from error
    state = dict(initial.named_parameters()) if isinstance(initial, nn.Module) else initial
    shapes = dict(zip(obj.layout.names, obj.layout.shapes, strict=True))
    for name, shape in shapes.items():
        if name not in state or state[name].shape != shape:
            raise InputError(
                f"initial weights must have the measured parameters, {name!r} of shape {tuple(shape)} is missing; "
                "pass the weights of the same model"
            )
    return obj.layout.join(state[name].detach().double() for name in obj.layout.names)


@register(
    "margin",
    title="Classification margin",
    symbol="margin₁₀",
    definition="The 10th percentile over the samples of the label's logit minus the largest other logit.",
    source="Jiang et al. 2020, equation 22 (whose measure is 1/margin²)",
    unit="logit",
    cost="1 loss",
    rescaling_invariant=True,
)
def margin(obj: Objective, quantile: float = 0.1) -> Estimate:
    """Return a quantile over samples of f_y − max_{k≠y} f_k, linearly interpolated.

    Negative where more than that share of the samples is misclassified. Checked against the authors' code of
    Dziugaite et al. 2020, which takes the ⌊n/10⌋-th smallest.

    Raises
    ------
    InputError
        For a quantile outside [0, 1], or a model that is no classifier.

    """
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile must lie in [0, 1], received {quantile}; the paper's is 0.1")
    cost = CostMeter(obj)
    logits, classes = logits_and_classes(obj, "margin")
    label = logits.gather(1, classes[:, None].long())[:, 0]
    others = logits.scatter(1, classes[:, None].long(), -torch.inf)
    margins = (label - others.max(1).values).double().cpu().numpy()
    import numpy as np

    return Estimate(
        "margin",
        float(np.quantile(margins, quantile)),
        cost=cost.total(),
        protocol={"quantile": quantile, **obj.protocol},
        fingerprint=obj.fingerprint,
    )


@register(
    "path_norm",
    title="Path norm",
    symbol="√(Σ_paths Π w²)",
    definition="Root of the sum over all paths from an input or bias to an output of the product of squared weights.",
    source="Neyshabur et al. 2015; Jiang et al. 2020, equation 44 (its square)",
    unit="",
    cost="none",
    rescaling_invariant=True,
)
def path_norm(obj: Objective) -> Estimate:
    """Return √(Σ_k f_{θ²}(1)_k): the network with squared parameters at an input of ones, its outputs summed.

    For a network of linear layers and ReLUs that is the root of the sum over paths. Max pooling takes the largest
    path in place of the sum, as in the papers' code. Batch normalisation counts as the affine map that it is in eval
    mode. Function-preserving rescalings leave it unchanged. All parameters count, measured or not.

    Raises
    ------
    InputError
        For inputs that are not floating point, or a network that is not positively homogeneous (tanh, attention):
        its outputs are no sums over paths.

    """
    cost = CostMeter()
    require_outputs(obj, "path_norm")
    if any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_var is None for m in obj.model.modules()
    ):
        raise InputError(
            "path_norm needs batch normalisation's running statistics, received a layer without; its outputs depend "
            "on the batch and are no sums over paths"
        )
    inputs = obj.evaluator.placed(obj.evaluator.first_batch()[0])
    if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
        raise InputError(
            "path_norm needs floating-point inputs, received others; token embeddings have no paths"
        )
    squared = deepcopy(obj.at(obj.flat()).with_copy(torch.float64).model).eval()
    with torch.no_grad(), preserved_random_state():
        for module in squared.modules():
            for name in list(getattr(module, "parametrizations", {})):
                nn.utils.parametrize.remove_parametrizations(module, name)
            _make_affine(module)
        for parameter in squared.parameters():
            parameter.square_()
        ones = torch.ones_like(inputs[:1], dtype=torch.float64)
        total = float(squared(ones).sum())
        for bias in (getattr(module, "bias", None) for module in squared.modules()):
            if isinstance(bias, Tensor):
                bias.zero_()
        uneven = 0.5 + torch.rand_like(ones)  # a constant input would hide softmax over positions
        once, twice = squared(uneven), squared(2 * uneven)
    if not bool((twice - 2 * once).abs().max() <= HOMOGENEOUS * once.abs().max()):
        raise InputError(
            f"path_norm needs a network that is positively homogeneous, {type(obj.model).__name__} is not: tanh, "
            "softmax, attention and layer normalisation have no sums over paths; use weight_norm"
        )
    return Estimate(
        "path_norm", total**0.5, cost=cost.total(), protocol=obj.protocol, fingerprint=obj.fingerprint
    )


def _make_affine(module: Any) -> None:
    """Replace a batch normalisation's statistics by the affine map that it is in eval mode, in place."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_var is None:
        return
    norm: Any = module
    factor = (norm.running_var + norm.eps).rsqrt()
    if not norm.affine:
        norm.weight = nn.Parameter(torch.ones_like(factor))
        norm.bias = nn.Parameter(torch.zeros_like(factor))
    norm.bias -= norm.running_mean * factor * norm.weight
    norm.weight *= factor
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
