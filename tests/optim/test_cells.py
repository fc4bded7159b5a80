"""The table of docs/optimizers.md, one process: how the step is called, in which precision, accumulated or not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from optim.test_refusals import batch, check, loss_of, network, reference
from sharpscope import SAM, Objective, SharpnessMonitor

RHO, LR = 0.5, 0.1
PRECISIONS: dict[str, float] = {"float32": 1e-6, "float64": 1e-12, "bfloat16": 5e-3, "float16": 1e-3}
"""Allowed distance from the reference; the last two are autocast, float16 under a GradScaler."""


def step(
    model: nn.Module,
    optimizer: Any,
    precision: str,
    style: str,
    parts: int,
    outside: bool,
    steps: int = 1,
    watched: bool = False,
) -> None:
    """Take steps on the common batch, split into micro-batches."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=precision == "float16")
    x, y = batch()
    x = x.to(next(model.parameters()).dtype)
    low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)

    def autocast(here: bool) -> Any:
        return torch.autocast("cpu", low) if low is not None and here else nullcontext()

    def evaluate() -> torch.Tensor:
        loss = torch.zeros(())
        for part in range(parts):
            with autocast(not outside):
                mean = nn.functional.cross_entropy(model(x[part::parts]), y[part::parts])
            scaler.scale(mean / parts).backward()
            loss = loss + mean.detach() / parts
        return loss

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        return evaluate()

    with autocast(outside):
        monitor = None
        if watched:
            objective = Objective(model, nn.functional.cross_entropy, (x, y))
            monitor = SharpnessMonitor(objective, every=1, optimizer=optimizer, samples=4, max_products=6)
            monitor.measure()
        for _ in range(steps):
            if style == "closure":
                optimizer.step(closure)
            else:
                evaluate()
                optimizer.first_step()
                evaluate()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
            if monitor is not None:
                monitor.after_step()
                assert monitor.rows[-1]["note"] == ""


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("style", ["closure", "two steps"])
@pytest.mark.parametrize("how", ["plain", "autocast around the step", "compiled"])
def test_a_step_is_the_reference_s(how: str, style: str, precision: str, parts: int) -> None:
    if precision == "float16" and style == "closure":
        pytest.skip("refused: test_a_scaler_s_step_with_a_closure_is_refused")
    module = network().double() if precision == "float64" else network()
    build: Callable[[nn.Module], Any] = lambda m: m  # noqa: E731
    if how == "compiled":
        build = lambda m: torch.compile(m, backend="aot_eager")  # noqa: E731
    model = build(module)
    optimizer = SAM(module.parameters(), rho=RHO, lr=LR, model=model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step(model, optimizer, precision, style, parts, outside="around" in how)
    check(module, reference(network(), RHO, LR), within=PRECISIONS[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("how", ["plain", "autocast around the step", "compiled"])
def test_the_monitor_changes_no_bit(how: str, precision: str) -> None:
    """Measured before, between and after steps, inside autocast where the loop is."""
    weights = []
    for watched in (False, True):
        module = network().double() if precision == "float64" else network()
        model: Any = torch.compile(module, backend="aot_eager") if how == "compiled" else module
        optimizer = SAM(module.parameters(), torch.optim.Adam, rho=RHO, lr=0.01, model=model)
        style = "two steps" if precision == "float16" else "closure"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step(model, optimizer, precision, style, 2, "around" in how, steps=2, watched=watched)
        weights.append([p.detach().numpy().tobytes() for p in module.parameters()])
    assert weights[0] == weights[1]


def test_a_sequence_of_closures_finds_an_epsilon_for_each() -> None:
    module = network()
    halves = [slice(0, 6), slice(6, 12)]
    optimizer = SAM(module.parameters(), rho=RHO, lr=LR)

    def closure(part: slice) -> torch.Tensor:
        loss = loss_of(module, part) / 2
        loss.backward()
        return loss

    optimizer.step([lambda part=part: closure(part) for part in halves])  # which clear nothing themselves
    each = [reference(network(), RHO, LR, loss=lambda m, part=part: loss_of(m, part)) for part in halves]
    check(module, {n: (each[0][n] + each[1][n]) / 2 for n in each[0]})
