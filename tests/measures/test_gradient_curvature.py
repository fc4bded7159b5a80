from __future__ import annotations

import statistics
from itertools import combinations

import pytest
import torch

from oracles.dense import dense
from oracles.quadratic import quadratic
from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures import batch_sharpness, critical_sharpness, directional_sharpness
from sharpscope.seeding import generator

MLP = next(p for p in PROBLEMS if p.name == "mlp relu")


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_curvature_along_the_dense_gradient(problem) -> None:
    obj = problem.objective()
    _, g, hessian = dense(obj)
    e = directional_sharpness(obj)
    assert e.value == pytest.approx(float(g @ hessian @ g / (g @ g)), rel=1e-7, abs=1e-10)
    assert (e.cost["losses"], e.cost["gradients"], e.cost["products"]) == (0, 1, 1)


def test_batches_have_their_own_gradient_and_hessian_and_weigh_by_the_squared_gradient() -> None:
    obj = MLP.objective()
    e = batch_sharpness(obj, 4, 6, seed=2)
    tops, bottoms = [], []
    for i in range(6):
        index = torch.randperm(19, generator=generator("batch_sharpness", 2, i))[:4]
        _, g, hessian = dense(obj.subset(index))
        tops.append(float(g @ hessian @ g))
        bottoms.append(float(g @ g))
    assert e.value == pytest.approx(sum(tops) / sum(bottoms), rel=1e-9)
    mean_of_ratios = statistics.mean(a / b for a, b in zip(tops, bottoms, strict=True))
    assert e.value != pytest.approx(mean_of_ratios, rel=1e-3)
    assert batch_sharpness(obj, 4, 6, seed=2, ratios=True).value == pytest.approx(mean_of_ratios, rel=1e-9)
    assert e.cost["products"] == pytest.approx(6 * 4 / 19)
    assert batch_sharpness(obj, None).value == directional_sharpness(obj).value


@pytest.mark.slow
def test_the_interval_of_batch_sharpness_holds_the_expectation() -> None:
    """The expectation is that over all 171 pairs of the 19 samples."""
    obj = MLP.objective()
    tops = bottoms = 0.0
    for pair in combinations(range(19), 2):
        part = obj.subset(torch.tensor(pair))
        g = part.gradient()
        tops, bottoms = tops + float(g @ part.hvp(g)), bottoms + float(g @ g)
    inside = 0
    for seed in range(60):
        low, high = batch_sharpness(obj, 2, 30, seed).interval(0.95)
        inside += low <= tops / bottoms <= high
    assert inside >= 52


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_on_a_quadratic_the_line_search_finds_the_curvature_along_the_gradient(scale: float) -> None:
    hessian = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64).diag() * scale
    gradient = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    obj = quadratic(hessian, gradient, torch.ones(3, dtype=torch.float64))
    e = critical_sharpness(obj, rtol=1e-4)
    exact = float(gradient @ hessian @ gradient / (gradient @ gradient))
    assert e.value == pytest.approx(exact, rel=1e-4)
    assert abs(e.value - exact) <= e.error
    assert e.converged
    update = torch.tensor([2.0, 1.0, 4.0], dtype=torch.float64)
    along = critical_sharpness(obj, update, rtol=1e-4)
    assert along.value == pytest.approx(float(update @ hessian @ update / (update @ gradient)), rel=1e-4)


def test_where_the_loss_falls_for_ever_there_is_no_critical_step() -> None:
    gradient = torch.tensor([1.0, -2.0], dtype=torch.float64)
    obj = quadratic(-torch.eye(2, dtype=torch.float64), gradient, torch.ones(2, dtype=torch.float64))
    e = critical_sharpness(obj)
    assert (e.value, e.converged) == (0.0, False)


def test_bad_arguments() -> None:
    obj = MLP.objective()
    flat = quadratic(torch.eye(2).double(), torch.zeros(2).double(), torch.ones(2).double())
    for function in (directional_sharpness, critical_sharpness):
        with pytest.raises(InputError, match="stationary point"):
            function(flat)
    with pytest.raises(InputError, match="falls"):
        critical_sharpness(obj, -obj.gradient())
    for arguments in ({"batch_size": 0}, {"batch_size": 20}, {"batch_size": 4, "restarts": 1}):
        with pytest.raises(InputError):
            batch_sharpness(obj, **arguments)
