from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from problems import PROBLEMS, data, uneven
from sharpscope import InputError, Objective, worst_case_sharpness


def linear(zero: bool = True) -> Objective:
    """L(θ) = mean of outputs: linear in θ, so every maximum over a ball has a closed form."""
    torch.manual_seed(2)
    x, _ = data(19, 4)
    model = nn.Linear(4, 2).double()
    if zero:
        with torch.no_grad():
            model.weight[0, 1] = 0
    return Objective(model, lambda o, t: o[:, 0].mean() - 2 * o[:, 1].mean(), uneven(x, x))


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("step_size", [None, 1e3])
def test_the_maximum_of_a_linear_loss_is_known(adaptive: bool, step_size: float | None) -> None:
    obj = linear()
    c = obj.flat().abs() if adaptive else torch.ones(obj.size)
    g = obj.gradient()
    exact = {"linf": 0.3 * float((c * g).abs().sum()), "l2": 0.3 * float((c * g).norm())}
    for norm, value in exact.items():
        if step_size and norm == "l2" and adaptive:
            continue  # plain steps meet the ellipsoid elsewhere than at its maximum
        e = worst_case_sharpness(obj, 0.3, norm, adaptive, batch_size=None, step_size=step_size)  # type: ignore[arg-type]
        assert e.value == pytest.approx(value, rel=1e-9)
        assert e.stderr is None


def test_batches_average_their_own_maxima() -> None:
    obj = linear()
    e = worst_case_sharpness(obj, 0.1, "linf", False, batch_size=5, restarts=300, seed=3)
    maxima = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        part = obj.subset(torch.randperm(19, generator=generator)[:5])
        maxima.append(0.1 * float(part.gradient().abs().sum()))
    assert e.value == pytest.approx(sum(maxima) / 300, rel=0.05)
    whole = worst_case_sharpness(obj, 0.1, "linf", False, batch_size=None).value
    assert e.value > whole * 1.02  # the mean of maxima exceeds the maximum of the mean
    assert e.samples == 300


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_never_negative_and_grows_with_the_radius(problem) -> None:
    obj = problem.objective()
    values = [worst_case_sharpness(obj, r, "l2", False, batch_size=None).value for r in (0.01, 0.1, 0.5)]
    assert 0 <= values[0] < values[1] < values[2]
    first_order = 0.01 * float(obj.gradient().norm())
    assert values[0] >= 0.9 * first_order


def test_adaptive_sharpness_ignores_a_function_preserving_rescaling() -> None:
    torch.manual_seed(0)
    x, y = data(19, 4)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    obj = Objective(model, nn.functional.cross_entropy, (x, y))
    adaptive, plain = {}, {}
    for key, factor in (("before", 1.0), ("after", 4.0)):
        with torch.no_grad():
            model[0].weight *= factor
            model[0].bias *= factor
            model[2].weight /= factor
        adaptive[key] = worst_case_sharpness(obj, 0.05, batch_size=None).value
        plain[key] = worst_case_sharpness(obj, 0.05, adaptive=False, batch_size=None).value
    assert adaptive["after"] == pytest.approx(adaptive["before"], rel=1e-10)
    assert plain["after"] > 1.3 * plain["before"] or plain["after"] < plain["before"] / 1.3


def test_overflow_is_infinite_and_flagged() -> None:
    x, _ = data(9, 2)
    obj = Objective(nn.Linear(2, 1).double(), lambda o, t: torch.exp(o**2 * 1e2).mean(), (x, x[:, :1]))
    e = worst_case_sharpness(obj, 50.0, "l2", False, batch_size=None)
    assert math.isinf(e.value)
    assert not e.converged


@pytest.mark.parametrize(
    "arguments",
    [
        {"radius": 0.0},
        {"radius": float("nan")},
        {"norm": "l1"},
        {"steps": 0},
        {"restarts": 1, "batch_size": 3},
        {"batch_size": 0},
        {"batch_size": 10**6},
        {"step_size": -1.0},
    ],
)
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        worst_case_sharpness(PROBLEMS[0].objective(), **{"batch_size": 4, **arguments})
