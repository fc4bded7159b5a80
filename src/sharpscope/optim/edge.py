"""The edge of stability of the optimizer in use: the curvature beyond which its step on a quadratic diverges.

Each is the largest a with which the recursion of the optimizer on a θ²/2 is stable (Cohen et al. 2021, section 2 and
appendix B; Cohen et al. 2022 for preconditioned steps, whose a is the largest eigenvalue of P^{-1/2} H P^{-1/2}).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sharpscope.optim.sam import SAM
from sharpscope.optim.sharpness_aware import SharpnessAware

Group = dict[str, Any]


@dataclass(frozen=True)
class Edge:
    """The edge of an optimizer as it stands.

    Attributes
    ----------
    value
        The edge, to be compared with λ_max of the loss's Hessian H, or with that of S (H + Γ) S where `scales` are
        not all 1. None where there is none.
    formula
        What the value is, or why there is none.
    scales
        S = P^{-1/2}: a number or tensor for every parameter that the optimizer steps.
    decays
        Γ: the L2 penalty of parameters, where it could not be taken off the edge.

    """

    value: float | None
    formula: str
    scales: Mapping[Tensor, Tensor | float] = field(default_factory=dict)
    decays: Mapping[Tensor, float] = field(default_factory=dict)


def edge_of_stability(optimizer: Optimizer, gradient_norm: float | None = None) -> Edge:
    """Return the edge of stability of an optimizer with its present rates and state.

    ======================  ==================================================================================
    SGD                     2/η; with momentum β 2(1+β)/η, divided by 1 − dampening; Nesterov 2(1+β)/(η(1+2β)).
                            An L2 penalty γ is part of the curvature that counts, and lowers the edge by γ
    Adam, AdamW             (2+2β₁)/((1−β₁)η) for P = (√v̂ + ε)(1 − β₁ᵗ), v̂ with bias correction; AdamW's decay λ
                            makes it (1+β₁)(2−ηλ)/((1−β₁)η)
    RMSprop, Adagrad        2/η, RMSprop with momentum β 2(1+β)/η, for P the root that its step divides by
    SAM around plain SGD    ‖g‖/(2ρ) · (√(1 + 8ρ/(η‖g‖)) − 1), g the gradient (Long & Bartlett 2024, section 2)
    ======================  ==================================================================================

    Groups may differ in rate and penalty, which then count as part of P and of the curvature; where they differ in
    momentum there is no edge. Wrappers of Lightning and accelerate are looked through.

    ``gradient_norm`` is ‖g‖ of the whole gradient, for SAM.

    >>> theta = torch.nn.Parameter(torch.ones(1))
    >>> edge_of_stability(torch.optim.SGD([theta], lr=0.5, momentum=0.5)).value
    6.0
    >>> edge_of_stability(torch.optim.SGD([theta], lr=0.1, momentum=0.9, nesterov=True)).formula
    '2(1+β)/(η(1+2β))'
    >>> edge_of_stability(torch.optim.Rprop([theta])).formula
    'none: no edge is known for Rprop'
    """
    optimizer = unwrapped(optimizer)
    if isinstance(optimizer, SharpnessAware):
        return _of_sam(optimizer, gradient_norm)
    name, rule = type(optimizer).__name__, _RULES.get(type(optimizer))
    groups = [g for g in optimizer.param_groups if g["params"]]
    if rule is None:
        return _none(f"no edge is known for {name}")
    if any(g.get("maximize") for g in groups):
        return _none(f"{name} maximizes")
    rates = [float(g["lr"]) for g in groups]
    if not max(rates, default=0.0) > 0:
        return _none("the learning rate is 0")
    return rule(optimizer, groups, max(rates))


def unwrapped(optimizer: Any) -> Optimizer:
    """Return the optimizer inside the wrappers of Lightning and accelerate."""
    while any(c.__module__.split(".")[0] in _WRAP for c in type(optimizer).__mro__):
        optimizer = optimizer.optimizer
    found: Optimizer = optimizer
    return found


_WRAP = ("lightning", "pytorch_lightning", "lightning_fabric", "accelerate")
"""Packages whose own optimizer classes hold the user's as ``optimizer`` and step as it does."""


def _none(reason: str) -> Edge:
    return Edge(None, f"none: {reason}")


def _agree(groups: list[Group], *keys: str) -> bool:
    """Whether all groups make the same choice."""
    return all(all(g[key] == groups[0][key] for g in groups) for key in keys)


def _of_sgd(optimizer: Optimizer, groups: list[Group], rate: float) -> Edge:
    if not _agree(groups, "momentum", "dampening", "nesterov"):
        return _none("groups differ in momentum")
    beta, dampening = groups[0]["momentum"], groups[0]["dampening"]
    formula, factor = "2/η", 2.0
    if groups[0]["nesterov"]:
        formula, factor = "2(1+β)/(η(1+2β))", 2 * (1 + beta) / (1 + 2 * beta)
    elif beta:
        formula, factor = "2(1+β)/η", 2 * (1 + beta)
        if dampening:
            if dampening >= 1:
                return _none("the dampening takes the whole gradient")
            formula, factor = "2(1+β)/(η(1−dampening))", factor / (1 - dampening)
    scales = {p: math.sqrt(float(g["lr"]) / rate) for g in groups if g["lr"] for p in g["params"]}
    return _with_penalty(factor / rate, formula, scales, groups)


def _with_penalty(
    value: float, formula: str, scales: dict[Tensor, Any], groups: list[Group], preconditioned: bool = False
) -> Edge:
    """Take the L2 penalty off the edge, or put it in the curvature where it is not the same in all directions."""
    penalty = groups[0]["weight_decay"]
    if not preconditioned and _agree(groups, "lr", "weight_decay"):
        return Edge(value - penalty, formula + (" − γ" if penalty else ""), scales)
    decays = {p: float(g["weight_decay"]) for g in groups for p in g["params"] if g["weight_decay"]}
    return Edge(value, formula, scales, decays)


def _of_adam(optimizer: Optimizer, groups: list[Group], rate: float) -> Edge:
    if not _agree(groups, "betas"):
        return _none("groups differ in momentum")
    beta, memory = (float(b) for b in groups[0]["betas"])

    def root(group: Group, state: dict[str, Any]) -> Tensor:
        second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
        step = float(state["step"])
        p: Tensor = ((second / (1 - memory**step)).sqrt() + group["eps"]) * (1 - beta**step)
        return p

    scales = _scales(optimizer, groups, rate, root)
    if not scales:
        return _none(f"{type(optimizer).__name__} has no second moments before its first step")
    formula = "(2+2β₁)/((1−β₁)η)"
    decoupled = isinstance(optimizer, torch.optim.AdamW) or groups[0].get("decoupled_weight_decay", False)
    if not decoupled:
        return _with_penalty((2 + 2 * beta) / ((1 - beta) * rate), formula, scales, groups, True)
    shrink = max(float(g["lr"]) * g["weight_decay"] for g in groups)  # the most cautious where groups differ
    formula = "(1+β₁)(2−ηλ)/((1−β₁)η)" if shrink else formula
    return Edge((1 + beta) * (2 - shrink) / ((1 - beta) * rate), formula, scales)


def _of_rmsprop(optimizer: Optimizer, groups: list[Group], rate: float) -> Edge:
    if not _agree(groups, "momentum"):
        return _none("groups differ in momentum")
    beta = groups[0]["momentum"]

    def root(group: Group, state: dict[str, Any]) -> Tensor:
        second = state["square_avg"]
        if group["centered"]:
            second = second - state["grad_avg"] ** 2
        p: Tensor = second.clamp_min(0).sqrt() + group["eps"]
        return p

    scales = _scales(optimizer, groups, rate, root)
    if not scales:
        return _none("RMSprop has no second moments before its first step")
    formula = "2(1+β)/η" if beta else "2/η"
    return _with_penalty(2 * (1 + beta) / rate, formula, scales, groups, True)


def _of_adagrad(optimizer: Optimizer, groups: list[Group], rate: float) -> Edge:
    def root(group: Group, state: dict[str, Any]) -> Tensor:
        slower = 1 + max(float(state["step"]) - 1, 0) * group["lr_decay"]
        p: Tensor = (state["sum"].sqrt() + group["eps"]) * slower
        return p

    if not any(float(state["step"]) for state in optimizer.state.values()):
        return _none("Adagrad has no sums before its first step")
    return _with_penalty(2 / rate, "2/η", _scales(optimizer, groups, rate, root), groups, True)


def _scales(
    optimizer: Optimizer, groups: list[Group], rate: float, root: Callable[[Group, dict[str, Any]], Tensor]
) -> dict[Tensor, Tensor | float]:
    """P^{-1/2} of every parameter that has a state, with P = √… · (largest rate / group's rate)."""
    with torch.no_grad():
        return {
            p: (root(g, optimizer.state[p]) * (rate / float(g["lr"]))).rsqrt()
            for g in groups
            if g["lr"]
            for p in g["params"]
            if optimizer.state.get(p)
        }


def _of_sam(optimizer: SharpnessAware, gradient_norm: float | None) -> Edge:
    groups = [g for g in optimizer.param_groups if g["params"]]
    if type(optimizer) is not SAM:
        return _none(f"no edge is known for {type(optimizer).__name__}")
    radii = {float(g["sam_rho"]) for g in groups}
    if radii == {0.0}:
        return edge_of_stability(optimizer.base)
    base = edge_of_stability(optimizer.base)
    if base.value is None:
        return base
    plain = base.formula == "2/η" and type(optimizer.base) is torch.optim.SGD
    if not plain or not _agree(groups, "lr", "sam_rho") or groups[0]["sam_rescale"] != "none":
        return _none("SAM's edge is known around gradient descent only, with one rate and one ρ")
    if not gradient_norm:
        return _none("SAM's edge needs a gradient, which is 0 here")
    rho, rate = radii.pop(), float(groups[0]["lr"])
    value = gradient_norm / (2 * rho) * (math.sqrt(1 + 8 * rho / (rate * gradient_norm)) - 1)
    return Edge(value, "‖g‖/(2ρ)·(√(1+8ρ/(η‖g‖))−1)", base.scales)


_RULES: dict[type[Optimizer], Callable[[Optimizer, list[Group], float], Edge]] = {
    torch.optim.SGD: _of_sgd,
    torch.optim.Adam: _of_adam,
    torch.optim.AdamW: _of_adam,
    torch.optim.RMSprop: _of_rmsprop,
    torch.optim.Adagrad: _of_adagrad,
}
