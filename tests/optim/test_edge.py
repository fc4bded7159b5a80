"""Each edge is where the optimizer's own steps on a quadratic turn unstable: they shrink below it and grow above."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sharpscope import ASAM, SAM
from sharpscope.optim import edge_of_stability

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (torch.optim.SGD, {"lr": 0.1}),
    "heavy ball": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8}),
    "dampened": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "penalty": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.7}),
    "without a radius": (SAM, {"lr": 0.1, "momentum": 0.8, "rho": 0.0}),
}


def grows(optimizer: torch.optim.Optimizer, theta: nn.Parameter, curvature: float, steps: int) -> bool:
    sizes = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = curvature * theta.square().sum() / 2
        loss.backward()
        optimizer.step()
        sizes.append(theta.abs().max().item())
    return max(sizes[-20:]) > max(sizes[20:40])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_shrink_below_the_edge_and_grow_above(name: str) -> None:
    kind, options = OPTIMIZERS[name]
    for share, outcome in ((0.99, False), (1.01, True)):
        theta = nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = kind([theta], **options)
        edge = edge_of_stability(optimizer)
        assert edge.value is not None
        assert set(edge.scales.values()) == {1.0}
        assert grows(optimizer, theta, share * edge.value, 400) is outcome


PRECONDITIONED: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"betas": (0.8, 0.9)}),
    "adam, penalty": (torch.optim.Adam, {"weight_decay": 3.0}),
    "adam, decoupled": (torch.optim.Adam, {"weight_decay": 5.0, "decoupled_weight_decay": True}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 5.0, "eps": 0.1}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.5, "weight_decay": 0.3}),
    "rmsprop, centered": (torch.optim.RMSprop, {"centered": True}),
    "adagrad": (torch.optim.Adagrad, {"lr_decay": 0.1, "eps": 0.2}),
}
RATES = (0.004, 0.01)


def stepped(name: str) -> tuple[list[nn.Parameter], list[torch.Tensor], torch.optim.Optimizer]:
    """Two groups of other rates after seven steps by random gradients, and what the last step did to them."""
    kind, options = PRECONDITIONED[name]
    theta = [nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in RATES]
    optimizer = kind([{"params": [p], "lr": rate} for p, rate in zip(theta, RATES, strict=True)], **options)
    draws = torch.Generator().manual_seed(0)
    for _ in range(7):
        before = [p.detach().clone() for p in theta]
        for p in theta:
            p.grad = torch.randn(2, generator=draws, dtype=torch.float64)
        optimizer.step()
    return theta, [p.detach() - b for p, b in zip(theta, before, strict=True)], optimizer


@pytest.mark.parametrize("name", PRECONDITIONED)
def test_the_preconditioner_is_what_the_last_step_divided_by(name: str) -> None:
    theta, change, optimizer = stepped(name)
    edge, largest = edge_of_stability(optimizer), max(RATES)
    for p, moved in zip(theta, change, strict=True):
        group = next(g for g in optimizer.param_groups if g["params"][0] is p)
        state = optimizer.state[p]
        decoupled = group.get("decoupled_weight_decay", False)
        before = p.detach() - moved
        along = state.get("exp_avg", p.grad + (0 if decoupled else group["weight_decay"]) * before)
        if (
            "momentum_buffer" in state
        ):  # RMSprop's holds quotients; without its memory the last one is the step's
            continue
        expected = (
            -largest * edge.scales[p] ** 2 * along - decoupled * group["lr"] * group["weight_decay"] * before
        )
        torch.testing.assert_close(moved, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", PRECONDITIONED)
def test_preconditioned_steps_likewise(name: str) -> None:
    """The recursion with P held, on a Hessian that makes S (H + Γ) S the same in all directions."""
    theta, _, optimizer = stepped(name)
    edge = edge_of_stability(optimizer)
    assert edge.value is not None
    for share, outcome in ((0.98, False), (1.02, True)):
        sizes = []
        place, velocity = [torch.ones(2).double() for _ in theta], [torch.zeros(2).double() for _ in theta]
        for _ in range(600):
            for i, p in enumerate(theta):
                group = optimizer.param_groups[i]
                square = max(RATES) * edge.scales[p] ** 2  # rate over P, whatever the group's rate
                h = share * edge.value / edge.scales[p] ** 2 - edge.decays.get(p, 0.0)
                decoupled = group.get("decoupled_weight_decay", False)
                g = h * place[i] + (0 if decoupled else group["weight_decay"]) * place[i]
                if "betas" in group:
                    beta = group["betas"][0]
                    velocity[i] = beta * velocity[i] + (1 - beta) * g
                else:
                    velocity[i] = group.get("momentum", 0.0) * velocity[i] + g
                shrink = max(RATES) * group["weight_decay"] if decoupled else 0.0
                place[i] = (1 - shrink) * place[i] - square * velocity[i]
            sizes.append(max(p.abs().max().item() for p in place))
        assert (max(sizes[-20:]) > max(sizes[20:40])) is outcome


def test_sam_around_gradient_descent() -> None:
    """Along the top eigenvector the gradient's length is kept exactly at the edge (Long & Bartlett 2024)."""
    for rho, rate, start in ((0.1, 0.05, 1.0), (0.5, 0.2, 0.3)):
        theta = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        optimizer = SAM([theta], rho=rho, lr=rate)
        edge = edge_of_stability(optimizer, gradient_norm=start)
        h = edge.value
        assert h is not None
        assert h < 2 / rate
        with torch.no_grad():
            theta.fill_(start / h)

        def closure(optimizer: Any = optimizer, theta: Any = theta, h: float = h) -> torch.Tensor:
            optimizer.zero_grad()
            loss = h * theta.square().sum() / 2
            loss.backward()
            return loss

        optimizer.step(closure)
        assert abs(h * theta.item()) == pytest.approx(start, rel=1e-12)
    assert edge_of_stability(SAM([theta], rho=1e-9, lr=0.1), 1.0).value == pytest.approx(20, rel=1e-6)


def test_where_there_is_none_the_reason_is_given() -> None:
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    two = [{"params": [p]}, {"params": [q], "momentum": 0.5}]
    cases: list[tuple[Any, str]] = [
        (torch.optim.Rprop([p]), "known for Rprop"),
        (torch.optim.SGD([p], lr=0.1, maximize=True), "maximizes"),
        (torch.optim.SGD([p], lr=0.0), "rate is 0"),
        (torch.optim.SGD([p], lr=0.1, momentum=0.9, dampening=1.0), "dampening"),
        (torch.optim.SGD(two, lr=0.1, momentum=0.9), "differ in momentum"),
        (torch.optim.Adam([p]), "before its first step"),
        (torch.optim.RMSprop([p]), "before its first step"),
        (torch.optim.Adagrad([p]), "before its first step"),
        (ASAM([p], lr=0.1), "known for ASAM"),
        (SAM([p], lr=0.1, momentum=0.9), "gradient descent only"),
        (SAM([p], lr=0.1, weight_decay=0.1), "gradient descent only"),
        (SAM([p], torch.optim.Rprop, lr=0.1), "known for Rprop"),
        (SAM([p], lr=0.1), "needs a gradient"),
    ]
    for optimizer, reason in cases:
        edge = edge_of_stability(optimizer)
        assert edge.value is None
        assert edge.formula.startswith("none: ")
        assert reason in edge.formula


def test_rates_of_groups_and_wrappers() -> None:
    p, q, unused = (nn.Parameter(torch.ones(1)) for _ in range(3))
    groups = [{"params": [p], "lr": 0.1, "weight_decay": 2.0}, {"params": [q], "lr": 0.4}]
    optimizer = torch.optim.SGD(groups, lr=0.2, momentum=0.5)
    edge = edge_of_stability(optimizer)
    assert (edge.value, edge.scales, edge.decays) == (7.5, {p: 0.5, q: 1.0}, {p: 2.0})

    accelerate = pytest.importorskip("accelerate")
    wrapped = accelerate.Accelerator(cpu=True).prepare(optimizer)
    assert edge_of_stability(wrapped).value == 7.5
    adam = torch.optim.Adam([p, unused], lr=0.1)
    p.grad = torch.ones(1)
    adam.step()
    assert set(edge_of_stability(adam).scales) == {p}
