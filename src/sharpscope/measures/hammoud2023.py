"""hammoud2023's adaptive worst-case sharpness: as the paper writes it, and as the authors' notebooks compute it.

The notebooks depart from the paper, differently for each model. ``as_coded`` reproduces what they compute, mistakes
included. Each function lists its notebook's departures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sharpscope.autograd.module_state import preserved_random_state, private_copy
from sharpscope.errors import InputError, require_one_of, require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.measures.worst_case import worst_case_sharpness
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator, seed_of

Model = Literal["fcnn", "lenet", "gat"]
Protocol = Literal["as_written", "as_coded"]

RADIUS = {"fcnn": 0.025, "lenet": 1e-4, "gat": 0.02}
RATE = {
    "as_written": {"fcnn": 0.014, "lenet": 0.05, "gat": 0.236},
    "as_coded": {"fcnn": 0.102, "lenet": 0.05, "gat": 0.236},
}
M = 64


@register(
    "hammoud2023",
    title="Adaptive worst-case sharpness, hammoud2023's protocols",
    symbol="E max L_S(θ+δ) − L_S(θ)",
    definition="Adaptive worst-case sharpness as the paper writes it, or as the authors' notebooks compute it; plain "
    "gradient steps make it depend on the scale of the weights.",
    source="hammoud2023",
    unit="loss",
    cost="50 batches of 64, 6 gradients each",
)
def hammoud2023_sharpness(
    obj: Objective,
    model: Model = "fcnn",
    protocol: Protocol = "as_written",
    radius: float | None = None,
    step_size: float | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate hammoud2023's sharpness of a fully connected network, LeNet-5 or GAT by either protocol.

    ``as_written`` is `worst_case_sharpness` in the adaptive ℓ∞ ball with m = 64, 50 batches and 5 plain gradient
    steps of the training rate. ``as_coded`` needs the whole training set as the objective's data and is:

    - ``fcnn``: no batches; six epochs of ⌈n/64⌉ steps on all the data; bounds w ± ρw without absolute values.
    - ``lenet``: five epochs of training batches in train mode; the ball's centre is the point after the first step.
    - ``gat``: five trials on 64 samples drawn with replacement; dropout stays on; losses summed over three batches.

    ``radius`` and ``step_size`` default to the paper's for each model. The unit is that of the loss.

    Raises
    ------
    InputError
        For an unknown model or protocol, a radius or rate that is not positive and finite, or data given to
        `Objective.from_batch_loss`.

    """
    for name, value, known in (("model", model, Model), ("protocol", protocol, Protocol)):
        require_one_of(name, value, get_args(known))
    rho = RADIUS[model] if radius is None else radius
    rate = RATE[protocol][model] if step_size is None else step_size
    require_positive("radius", rho, "leave it out for the paper's")
    require_positive("step_size", rate, "leave it out for the paper's")
    if obj.evaluator.loss is None:
        raise InputError(
            "hammoud2023 draws samples and needs (inputs, targets) data, received from_batch_loss batches; "
            "build the objective with Objective(model, loss, (inputs, targets))"
        )
    chosen = {"model": model, "protocol": protocol, "radius": rho, "step_size": rate, "seed": seed}
    if protocol == "as_written":
        m = min(M, int(obj.n_samples))
        e = worst_case_sharpness(obj, rho, "linf", True, m, 50, 5, rate, seed, direction="gradient")
        return replace(e, measure="hammoud2023", protocol={**e.protocol, **chosen})
    cost = CostMeter(obj)
    if model == "fcnn":
        draws = [_fcnn_as_coded(obj, rho, rate)]
    else:
        draws = (_lenet_as_coded if model == "lenet" else _gat_as_coded)(obj, rho, rate, seed)
    protocol_of = {**obj.protocol, **chosen}
    if len(draws) > 1:
        return Estimate.of_samples("hammoud2023", draws, cost.total(), protocol_of, obj.fingerprint)
    finite = math.isfinite(draws[0])
    return Estimate(
        "hammoud2023",
        draws[0],
        converged=finite,
        cost=cost.total(),
        protocol=protocol_of,
        fingerprint=obj.fingerprint,
    )


def _fcnn_as_coded(obj: Objective, rho: float, rate: float) -> float:
    """The fully connected network's notebook.

    Departures: (1) every step uses the full training set, whatever its batch; (2) six epochs of one step per batch
    of 64 instead of five steps; (3) bounds w − ρw and w + ρw without absolute values: for a negative weight they are
    swapped, and a clamp with swapped bounds returns the upper argument, w + ρw, whatever the step; (4) the kept
    weights are those at the end of the epoch with the largest sum of losses, not the iterate of the highest loss.
    """
    centre = obj.flat()
    low, high = centre - rho * centre, centre + rho * centre
    steps = math.ceil(obj.n_samples / M)
    weights, kept, highest = centre, centre, 0.0
    _, gradient = obj.loss_and_gradient(weights)
    for _ in range(6):
        total = 0.0
        for _ in range(steps):
            weights = torch.clamp(weights + rate * gradient, low, high)
            here, gradient = obj.loss_and_gradient(weights)
            total += here
        if total > highest:
            kept, highest = weights, total
    return obj.loss(kept) - obj.loss(centre)


def _lenet_as_coded(obj: Objective, rho: float, rate: float, seed: int) -> list[float]:
    """LeNet-5's notebook.

    Departures: (1) the ball's centre is a detached view of the live weights, so the first step moves the centre too
    and is not projected, and the ball is one around the point after that step; (2) the ascent runs over five epochs
    of training batches, each step on another batch; (3) the model is in train mode: dropout is on, and batch
    normalisation uses batch statistics and updates its running ones; (4) the value is the highest loss over the whole
    training set after an epoch, in eval mode with the updated statistics, minus the original one.
    """
    with _ascending_copy(obj, "lenet", seed) as (model, weights):
        inputs, targets = _data(obj)
        original = _mean_loss(obj, model, inputs, targets)
        best, centre = -math.inf, None
        for epoch in range(5):
            model.train()
            order = torch.randperm(len(targets), generator=generator("hammoud2023", "lenet", seed, epoch))
            for chosen in order.to(inputs.device).split(M):
                _ascent_step(obj, model, weights, inputs[chosen], targets[chosen], rate)
                if centre is None:  # the notebook's alias makes the first point the centre
                    centre = [w.detach().clone() for w in weights]
                _project_in_place(weights, centre, rho)
            best = max(best, _mean_loss(obj, model, inputs, targets))
        passes = 5 * len(targets) / obj.n_samples
        obj.cost.gradients += round(passes)
        obj.cost.losses += 6
    return [best - original]


def _gat_as_coded(obj: Objective, rho: float, rate: float, seed: int) -> list[float]:
    """GAT's notebook.

    Departures: (1) there are five trials, not fifty; (2) their 64 nodes are drawn with replacement, and a node drawn
    twice counts once; (3) dropout is active throughout, with new masks on every pass; (4) the ascent uses those
    nodes, but the losses compared are over all training nodes; (5) the losses are summed, not averaged, over the
    batches of a shuffled pass (64, 64 and 12 of 140). The starting loss is one such noisy pass, shared by the five
    trials.
    """
    with _ascending_copy(obj, "gat", seed) as (model, weights):
        inputs, targets = _data(obj)
        n = len(targets)
        centre = [w.detach().clone() for w in weights]
        passes = 0

        def summed() -> float:
            nonlocal passes
            order = torch.randperm(n, generator=generator("hammoud2023", "gat", seed, "pass", passes))
            passes += 1
            with torch.no_grad():
                return sum(
                    float(_loss(obj, model, inputs[i], targets[i])) for i in order.to(inputs.device).split(M)
                )

        model.train()
        original = summed()
        draws = []
        for trial in range(5):
            with torch.no_grad():
                for weight, start in zip(weights, centre, strict=True):
                    weight.copy_(start)
            drawn = torch.randint(
                n, (min(M, n),), generator=generator("hammoud2023", "gat", seed, "nodes", trial)
            )
            nodes = drawn.unique().to(inputs.device)
            highest = 0.0
            for _ in range(5):
                _ascent_step(obj, model, weights, inputs[nodes], targets[nodes], rate)
                _project_in_place(weights, centre, rho)
                highest = max(highest, summed())
            draws.append(highest - original)
        obj.cost.losses += passes
        obj.cost.gradients += 25
    return draws


@contextmanager
def _ascending_copy(obj: Objective, name: str, seed: int) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    """Yield a copy of the model at the measured point and its measured weights, with a random state of its own."""
    model = private_copy(obj.model).to(obj.dtype).eval()
    model.zero_grad()
    parameters = dict(model.named_parameters())
    measured = [parameters[name] for name in obj.layout.names]
    with torch.no_grad():
        for parameter, value in zip(measured, obj.layout.split(obj.flat()).values(), strict=True):
            parameter.copy_(value)
            parameter.requires_grad_()  # a frozen one may have been chosen by name
    with preserved_random_state():
        torch.manual_seed(seed_of("hammoud2023", name, seed))
        yield model, measured


def _data(obj: Objective) -> tuple[Tensor, Tensor]:
    inputs, targets = obj.evaluator.placed(obj.evaluator.tensors())
    return inputs, targets


def _loss(obj: Objective, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    loss = obj.evaluator.loss
    assert loss is not None
    return loss(model(inputs), targets)


def _mean_loss(obj: Objective, model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    model.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in _chunks(inputs, targets):
            total += len(y) * float(_loss(obj, model, x, y))
    return total / len(targets)


def _chunks(inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(inputs.split(1024), targets.split(1024), strict=True)


def _ascent_step(
    obj: Objective, model: nn.Module, weights: list[nn.Parameter], x: Tensor, y: Tensor, rate: float
) -> None:
    """Move the weights by rate · gradient, in place."""
    with torch.enable_grad():
        gradients = torch.autograd.grad(_loss(obj, model, x, y), weights, allow_unused=True)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                weight.add_(gradient, alpha=rate)


def _project_in_place(weights: list[nn.Parameter], centre: list[Tensor], rho: float) -> None:
    with torch.no_grad():
        for weight, c in zip(weights, centre, strict=True):
            weight.copy_(torch.clamp(weight, c - rho * c.abs(), c + rho * c.abs()))
