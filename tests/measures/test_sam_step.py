from __future__ import annotations

from typing import Any

import pytest
import torch

from problems import PROBLEMS
from sharpscope import InputError, sam_step_sharpness, worst_case_sharpness
from sharpscope.seeding import generator

MLP = next(p for p in PROBLEMS if p.name == "mlp tanh")


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("adaptive", [True, False])
def test_the_step_by_hand(norm: Any, adaptive: bool) -> None:
    obj = MLP.objective()
    theta, g = obj.flat(), obj.gradient()
    c = theta.abs() if adaptive else torch.ones_like(theta)
    step = c * g.sign() if norm == "linf" else c**2 * g / (c * g).norm()
    e = sam_step_sharpness(obj, 0.1, norm, adaptive)
    assert e.value == pytest.approx(obj.loss(theta + 0.1 * step) - obj.loss(), rel=1e-10)
    assert (e.cost["losses"], e.cost["gradients"]) == (1, 1)


def test_it_is_at_most_the_worst_case_of_the_same_ball() -> None:
    obj = MLP.objective()
    for radius in (0.05, 0.5, 3.0):
        worst = worst_case_sharpness(obj, radius, "l2", False, batch_size=None, steps=60).value
        assert sam_step_sharpness(obj, radius).value <= worst * (1 + 1e-9)


def test_batches_each_have_their_own_gradient() -> None:
    obj = MLP.objective()
    e = sam_step_sharpness(obj, 0.2, batch_size=4, restarts=5, seed=7)
    rises = []
    for i in range(5):
        part = obj.subset(torch.randperm(19, generator=generator("worst_case", 7, i))[:4])
        g = part.gradient()
        rises.append(part.loss(obj.flat() + 0.2 * g / g.norm()) - part.loss())
    assert e.value == pytest.approx(sum(rises) / 5, rel=1e-10)


@pytest.mark.parametrize("arguments", [{"radius": 0.0}, {"norm": "l1"}, {"batch_size": 0}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        sam_step_sharpness(MLP.objective(), **arguments)
