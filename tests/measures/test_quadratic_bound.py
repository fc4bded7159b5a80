from __future__ import annotations

import json

import pytest
import torch

from oracles.quadratic import quadratic
from problems import PROBLEMS
from sharpscope import InputError, measure, quadratic_bound

QUADRATIC = next(p for p in PROBLEMS if p.name.startswith("quadratic"))


def test_the_bound_holds_on_a_quadratic_and_is_tight_at_its_minimum() -> None:
    obj = QUADRATIC.objective()
    anywhere = quadratic_bound(obj, 0.3)
    assert anywhere.holds
    assert anywhere.converged
    assert anywhere.bound == pytest.approx(
        obj.loss() + 0.3 * float(obj.gradient().norm()) + 0.3**2 * 5 / 2, rel=1e-3
    )
    with torch.no_grad():  # inputs are diagonal, so the minimum fits every target
        obj.model.weight.copy_((1 / next(iter(obj.evaluator.batches))[0].diagonal())[None])
        obj.model.weight[0, 0] += 1e-3  # off the saddle of the ascent
    at_minimum = quadratic_bound(obj, 0.3, steps=200)
    assert at_minimum.holds
    assert at_minimum.reached == pytest.approx(at_minimum.bound, rel=1e-2)


def test_where_the_loss_is_not_quadratic_the_bound_can_fail() -> None:
    steep = next(p for p in PROBLEMS if p.name == "one parameter").objective()
    assert not quadratic_bound(steep, 5.0).holds


def test_a_row_holds_the_bound_on_the_rise_and_the_rise_itself() -> None:
    obj = QUADRATIC.objective()
    both = quadratic_bound(obj, 0.3)
    with_rise = measure(obj, [{"measure": "quadratic_bound", "radius": 0.3}]).iloc[0]
    alone = measure(obj, [{"measure": "quadratic_bound", "radius": 0.3, "steps": 0}]).iloc[0]
    assert with_rise["value"] == alone["value"] == both.bound - both.loss
    assert alone["low"] < alone["value"] < alone["high"]
    assert json.loads(with_rise["protocol"])["reached"] == both.reached - both.loss
    assert "reached" not in json.loads(alone["protocol"])
    assert alone["gradients"] == 1 < with_rise["gradients"]


@pytest.mark.parametrize("arguments", [{"radius": 0.0}, {"steps": -1}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        quadratic_bound(QUADRATIC.objective(), **arguments)


def test_where_no_curvature_is_positive_the_slope_alone_bounds_the_rise() -> None:
    gradient = torch.tensor([3.0, 4.0], dtype=torch.float64)
    concave = torch.tensor([-1.0, -2.0], dtype=torch.float64).diag()
    both = quadratic_bound(quadratic(concave, gradient, torch.ones(2, dtype=torch.float64)), 0.5)
    assert both.bound - both.loss == pytest.approx(0.5 * 5)
    assert both.holds
