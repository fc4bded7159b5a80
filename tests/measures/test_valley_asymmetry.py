from __future__ import annotations

import pytest
import torch
from torch import nn

from problems import PROBLEMS
from sharpscope import InputError, Objective
from sharpscope.measures import valley_asymmetry

QUADRATIC = next(p for p in PROBLEMS if p.name.startswith("quadratic"))


def kink(left: float, right: float) -> Objective:
    """A loss of one weight with slope ``right`` above zero and ``left`` below."""
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.zero_()
    x = torch.ones(3, 1, dtype=torch.float64)
    return Objective(model, lambda o, t: torch.where(o > 0, right * o, -left * o).mean(), (x, x))


def test_a_kink_with_slopes_one_and_three_has_asymmetry_one_half() -> None:
    assert valley_asymmetry(kink(1.0, 3.0), 0.2, 8).value == pytest.approx(0.5)
    assert valley_asymmetry(kink(3.0, 1.0), 0.2, 8).value == pytest.approx(0.5)
    assert valley_asymmetry(kink(0.0, 2.0), 0.2, 8).value == pytest.approx(1.0)
    assert valley_asymmetry(kink(0.0, 0.0), 0.2, 8).value == 0.0


def test_a_quadratic_is_symmetric_around_its_minimum_alone() -> None:
    obj = QUADRATIC.objective()
    assert valley_asymmetry(obj, 0.01, 40).value > 0.5
    with torch.no_grad():
        obj.model.weight.copy_((1 / obj.evaluator.tensors()[0].diagonal())[None])
    assert valley_asymmetry(obj, 0.5, 40).value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("arguments", [{"radius": 0.0}, {"samples": 3}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        valley_asymmetry(QUADRATIC.objective(), **arguments)
