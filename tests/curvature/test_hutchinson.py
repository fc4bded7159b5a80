from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from oracles.dense import dense
from problems import PROBLEMS, Problem
from sharpscope import InputError, NotConvergedWarning, Objective, frobenius_norm, trace

each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)


@each_problem
def test_trace_and_frobenius_norm_agree_with_the_dense_hessian(problem: Problem) -> None:
    obj = problem.objective()
    hessian = dense(obj)[2]
    for estimate, exact in (
        (trace(obj, samples=400), float(hessian.trace())),
        (frobenius_norm(obj, samples=400), float(hessian.norm())),
    ):
        assert estimate.stderr is not None
        assert abs(estimate.value - exact) <= 4.5 * estimate.stderr + 1e-12
        assert estimate.stderr < 0.2 * float(hessian.norm())


def test_probes_of_a_diagonal_hessian_are_exact() -> None:
    obj = next(p for p in PROBLEMS if p.name.startswith("quadratic")).objective()
    assert trace(obj, samples=2).value == pytest.approx(9.3, rel=1e-12)
    assert frobenius_norm(obj, samples=2).value == pytest.approx(math.sqrt(25 + 8 + 0.03), rel=1e-12)


def _skewed(samples: int) -> tuple[Objective, torch.Tensor]:
    """Return weighted least squares in 30 parameters with four large eigenvalues of both signs, and its Hessian."""
    g = torch.Generator().manual_seed(5)
    scales = torch.cat([torch.tensor([40.0, 25.0, 20.0, 15.0]), torch.full((26,), 0.5)]).double()
    q, _ = torch.linalg.qr(torch.randn(30, 30, generator=g, dtype=torch.float64))
    z = torch.randn(samples, 30, generator=g, dtype=torch.float64)
    x = z * scales.sqrt() @ q
    sign = torch.where(z[:, :1].abs() > z[:, 1:2].abs(), 1.0, -1.0).double()
    model = nn.Linear(30, 1, bias=False).double()
    return Objective(model, lambda o, t: (0.5 * t * o.square()).mean(), (x, sign)), (x * sign).T @ x / samples


@pytest.mark.parametrize(
    ("samples", "options"), [(2000, {}), (200, {"deflate": 6}), (2000, {"deflate": 2})], ids=str
)
def test_what_is_taken_out_first_is_added_back(samples: int, options: dict) -> None:
    obj, hessian = _skewed(samples)
    for function, exact in ((trace, float(hessian.trace())), (frobenius_norm, float(hessian.norm()))):
        held = 0
        for seed in range(6):
            e = function(obj, samples=16, seed=seed, **options)
            assert e.protocol["deflated"] == options.get("deflate", 10)
            held += abs(e.value - exact) <= 3 * e.stderr + 1e-9
            if options.get("deflate") != 2:
                assert e.stderr < 0.12 * float(hessian.norm())
        assert held >= 5


def test_standard_errors_match_the_spread_over_seeds() -> None:
    obj = PROBLEMS[2].objective()
    for function in (trace, frobenius_norm):
        estimates = [function(obj, samples=24, seed=s) for s in range(60)]
        values = torch.tensor([e.value for e in estimates])
        predicted = torch.tensor([e.stderr for e in estimates]).square().mean().sqrt()
        assert float(values.std()) == pytest.approx(float(predicted), rel=0.35)


def test_stops_at_the_requested_relative_error_or_says_so() -> None:
    obj = PROBLEMS[2].objective()
    e = trace(obj, rtol=0.05, max_samples=2000)
    assert e.converged
    assert e.stderr <= 0.05 * abs(e.value)
    assert e.cost["products"] == e.samples
    with pytest.warns(NotConvergedWarning):
        short = trace(obj, rtol=1e-4, max_samples=10)
    assert not short.converged
    assert short.samples == 10


@pytest.mark.parametrize("function", [trace, frobenius_norm])
@pytest.mark.parametrize(("rtol", "spread"), [(0.01, 0.3), (0.03, 3.0)])
def test_intervals_cover_the_truth_in_19_of_20_of_500_repetitions(
    function: Any, rtol: float, spread: float
) -> None:
    g = torch.Generator().manual_seed(1)
    spectrum = 1 + spread * torch.empty(64, dtype=torch.float64).exponential_(generator=g)
    q, _ = torch.linalg.qr(torch.randn(64, 64, generator=g, dtype=torch.float64))
    x = 8 * spectrum.sqrt()[:, None] * q.T
    model = nn.Linear(64, 1, bias=False).double()
    obj = Objective(model, lambda o, t: 0.5 * (o - t).square().mean(), (x, torch.zeros_like(x[:, :1])))
    exact = float(spectrum.sum() if function is trace else spectrum.norm())
    held, most = 0, 0
    for seed in range(500):
        e = function(obj, rtol=rtol, max_samples=2000, seed=seed)
        low, high = e.interval(0.95)
        held += low <= exact <= high
        most = max(most, e.samples)
    assert most > 24  # the stopping rule had something to decide
    assert 0.93 <= held / 500 <= 0.97


def test_probe_i_does_not_depend_on_how_many_are_drawn() -> None:
    obj = PROBLEMS[2].objective()
    few, many = trace(obj, samples=9), trace(obj, samples=21)
    again = trace(obj, samples=9)
    assert few.value == again.value
    assert few.value != many.value
    assert trace(obj, samples=9, seed=1).value != few.value


def test_a_hessian_of_zeros() -> None:
    x = torch.ones(4, 2, dtype=torch.float64)
    obj = Objective(nn.Linear(2, 1).double(), lambda o, t: o.mean(), (x, x[:, :1]))
    assert trace(obj).value == 0
    assert frobenius_norm(obj).value == 0
    assert frobenius_norm(obj).converged


def test_a_relative_error_out_of_reach_is_said_early() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 60, generator=g, dtype=torch.float64)
    sign = torch.ones(300, 1, dtype=torch.float64)
    sign[:150] = -x[150:].square().sum() / x[:150].square().sum()  # a trace of zero
    obj = Objective(
        nn.Linear(60, 1, bias=False).double(), lambda o, t: (0.5 * t * o.square()).mean(), (x, sign)
    )
    with pytest.warns(NotConvergedWarning, match="cancel: set samples="):
        e = trace(obj)
    assert not e.converged
    assert e.samples <= 32
    assert abs(e.value) <= 4 * e.stderr


@pytest.mark.parametrize(
    "arguments", [{"samples": 1}, {"rtol": 0.0}, {"rtol": float("nan")}, {"max_samples": 1}]
)
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        trace(PROBLEMS[0].objective(), **arguments)
