from __future__ import annotations

import pytest
import torch
from torch import nn

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError, NotConvergedWarning, Objective, average_direction_sharpness

QUADRATIC = next(p for p in PROBLEMS if p.name.startswith("quadratic"))


@pytest.mark.parametrize("antithetic", [True, False])
def test_a_quadratic_has_a_closed_form(antithetic: bool) -> None:
    obj = QUADRATIC.objective()
    exact = 2.0**2 * 9.3 / (2 * 6)  # ε² tr H / (2 n)
    e = average_direction_sharpness(obj, radius=2.0, samples=2000, antithetic=antithetic)
    assert abs(e.value - exact) < 4.5 * e.stderr
    assert e.stderr < 0.1 * exact


def test_antithetic_pairs_cancel_first_order_terms_exactly() -> None:
    x = torch.randn(7, 3, dtype=torch.float64)
    obj = Objective(nn.Linear(3, 1).double(), lambda o, t: o.mean(), (x, x[:, :1]))
    assert average_direction_sharpness(obj, samples=10).value == pytest.approx(0, abs=1e-12)
    assert abs(average_direction_sharpness(obj, samples=10, antithetic=False).value) > 1e-3


def test_agrees_with_a_naive_twin_in_numpy_terms() -> None:
    obj = PROBLEMS[6].objective()
    generator = torch.Generator().manual_seed(0)
    base, centre = obj.loss(), obj.flat()
    rises = []
    for _ in range(800):
        g = torch.randn(obj.size, generator=generator, dtype=torch.float64)
        rises.append(obj.loss(centre + 1.5 * g / g.norm()) - base)
    naive = torch.tensor(rises)
    e = average_direction_sharpness(obj, radius=1.5, samples=600)
    spread = (e.stderr**2 + float(naive.var()) / len(naive)) ** 0.5
    assert abs(e.value - float(naive.mean())) < 4 * spread


def test_small_radius_is_the_trace() -> None:
    obj = PROBLEMS[2].objective()
    hessian = dense(obj)[2]
    e = average_direction_sharpness(obj, radius=1e-2, samples=1000)
    assert abs(e.value - 1e-4 * float(hessian.trace()) / (2 * obj.size)) < 4.5 * e.stderr + 1e-9


def test_directions_do_not_depend_on_precision_or_number() -> None:
    obj = PROBLEMS[2].objective()
    single = PROBLEMS[2].objective(dtype=torch.float32)
    a, b = (average_direction_sharpness(o, radius=1.0, samples=40).value for o in (obj, single))
    assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"radius": -1.0},
        {"radius": float("inf")},
        {"samples": 3},
        {"samples": 2},
        {"width": 0.0},
        {"relative_width": float("nan")},
        {"width": 1.0, "max_samples": 3},
        {"samples": 1, "antithetic": False},
    ],
)
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        average_direction_sharpness(QUADRATIC.objective(), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("antithetic", [True, False])
def test_intervals_cover_the_known_expectation(antithetic: bool) -> None:
    obj = QUADRATIC.objective()
    exact = 2.0**2 * 9.3 / (2 * 6)
    inside = 0
    for seed in range(400):
        low, high = average_direction_sharpness(obj, 2.0, 128, seed, antithetic=antithetic).interval(0.95)
        inside += low <= exact <= high
    assert 366 <= inside <= 392


def test_a_target_width_is_reached_or_said_not_to_be() -> None:
    obj = QUADRATIC.objective()
    e = average_direction_sharpness(obj, 2.0, width=0.2)
    low, high = e.interval(0.95)
    assert high - low <= 0.2
    assert e.converged
    assert e.protocol["samples"] == 2 * e.samples == e.cost["losses"] - 1
    coarse = average_direction_sharpness(obj, 2.0, relative_width=0.5)
    low, high = coarse.interval(0.95)
    assert high - low <= 0.5 * coarse.value
    assert coarse.samples < e.samples
    with pytest.warns(NotConvergedWarning, match="wide"):
        short = average_direction_sharpness(obj, 2.0, width=1e-3, max_samples=100)
    assert not short.converged
    assert short.samples == 50


def test_more_samples_continue_the_same_draws() -> None:
    """Reaching a width by rounds gives the value that as many samples at once give."""
    obj = PROBLEMS[2].objective()
    e = average_direction_sharpness(obj, 1.0, relative_width=0.4)
    again = average_direction_sharpness(obj, 1.0, samples=e.protocol["samples"])
    assert e.value == pytest.approx(again.value, rel=1e-12)


def test_the_adaptive_form_ignores_a_function_preserving_rescaling() -> None:
    torch.manual_seed(0)
    x = torch.randn(19, 4, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    obj = Objective(model, nn.functional.cross_entropy, (x, torch.arange(19) % 3))
    found = {}
    for factor in (1.0, 5.0):
        with torch.no_grad():
            model[0].weight *= factor
            model[0].bias *= factor
            model[2].weight /= factor
        found[factor] = [
            average_direction_sharpness(obj, 1.0, samples=64, adaptive=a).value for a in (True, False)
        ]
    assert found[5.0][0] == pytest.approx(found[1.0][0], rel=1e-10)
    assert abs(found[5.0][1] / found[1.0][1] - 1) > 0.1
