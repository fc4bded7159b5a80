from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from problems import PROBLEMS, Problem, data
from sharpscope import NonFiniteError, Objective, worst_case_sharpness
from sharpscope.measures.perturbation import batched
from sharpscope.measures.perturbation.batched import can_batch, losses_at


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_batched_ascents_find_what_single_ascents_find(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    obj = problem.objective()
    if problem.batch_loss:
        assert not batched.can_batch(obj)
        return
    for how in ({"steps": 12, "starts": 2}, {"steps": 4, "step_size": 0.1}):
        found = []
        for batches in (True, False):
            with monkeypatch.context() as patch:
                if not batches:
                    patch.setattr(batched, "can_batch", lambda _: False)
                found.append(worst_case_sharpness(obj, 0.2, "l2", batch_size=4, restarts=3, **how))
        assert found[0].value == pytest.approx(found[1].value, rel=1e-6)
        assert found[0].stderr == pytest.approx(found[1].stderr, rel=1e-5)


def test_small_networks_are_batched_and_report_overflow_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    original = batched._batched_gradients

    def counting(parts: list[Objective], points: Tensor) -> Any:
        passes.append(len(parts))
        return original(parts, points)

    monkeypatch.setattr(batched, "_batched_gradients", counting)
    obj = next(p for p in PROBLEMS if p.name == "mlp relu").objective()
    e = worst_case_sharpness(obj, 0.2, batch_size=4, restarts=40, step_size=0.1)
    assert passes == [32] * 6 + [8] * 6
    assert e.cost["gradients"] == pytest.approx(40 * 6 * 4 / 19)
    x, _ = data(9, 2)
    steep = Objective(nn.Linear(2, 1).double(), lambda o, t: torch.exp(o**2 * 1e2).mean(), (x, x[:, :1]))
    e = worst_case_sharpness(steep, 50.0, "l2", False, batch_size=3, restarts=4)
    assert math.isinf(e.value)
    with torch.no_grad():
        steep.model.weight.fill_(1e3)
    with pytest.raises(NonFiniteError, match="measured parameters"):
        worst_case_sharpness(steep, 50.0, batch_size=3, restarts=4)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_batched_losses_are_those_of_single_points(problem) -> None:
    obj = problem.objective()
    points = obj.flat() + 0.3 * torch.randn(5, obj.size, generator=torch.Generator().manual_seed(1)).double()
    before = obj.cost.losses
    batched = list(losses_at(obj, points))
    assert obj.cost.losses - before == 5
    assert batched == pytest.approx([obj.loss(p) for p in points], rel=1e-12)


def test_small_networks_are_batched_and_convolutions_are_not() -> None:
    fits = {p.name: can_batch(p.objective()) for p in PROBLEMS}
    assert fits["mlp relu"]
    assert not fits["convolution"]
    assert not fits["batch norm train"]
