from __future__ import annotations

import math

import pytest
import torch

from oracles.dense import dense
from oracles.quadratic import draw, quadratic
from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures import local_entropy, low_pass_flatness
from sharpscope.measures.smoothed_loss import filter_norms

CONV, QUADRATIC = (
    next(p for p in PROBLEMS if p.name == name) for name in ("convolution", "quadratic, multiple eigenvalues")
)


def test_filters_are_rows_and_kernels_and_vectors_count_whole() -> None:
    obj = CONV.objective()
    found = obj.layout.split(filter_norms(obj))
    model = obj.model
    assert float(found["1.weight"][1, 0, 2, 1]) == pytest.approx(float(model[1].weight[1].detach().norm()))
    assert float(found["5.weight"][2, 3]) == pytest.approx(float(model[5].weight[2].detach().norm()))
    assert float(found["5.bias"][0]) == pytest.approx(float(model[5].bias.detach().norm()))


@pytest.mark.parametrize("filterwise", [True, False])
def test_the_filtered_loss_of_a_quadratic_is_known(filterwise: bool) -> None:
    obj = QUADRATIC.objective()
    hessian = dense(obj)[2]
    scale = 0.3 * (filter_norms(obj) if filterwise else torch.ones(obj.size).double())
    exact = obj.loss() + 0.5 * float((scale**2 * hessian.diagonal()).sum())
    e = low_pass_flatness(obj, 0.3, 4000, filterwise)
    assert abs(e.value - exact) < 4.5 * e.stderr
    assert e.stderr < 0.05 * (exact - obj.loss())
    assert e.samples == 2000


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_the_local_entropy_of_a_quadratic_is_known(beta: float) -> None:
    """E exp(−β(g·ξ + ½ ξᵀHξ)) over N(0, I/(βγ)) = Π (1 + λ/γ)^{-1/2} · exp(½ β gᵀ(H + γ)^{-1} g)."""
    hessian, gradient, centre = draw("indefinite", 6, 4)
    hessian = hessian / hessian.abs().max()
    gamma = 8.0
    obj = quadratic(hessian, gradient, centre)
    values = torch.linalg.eigvalsh(hessian)
    inverse = torch.linalg.inv(hessian + gamma * torch.eye(6).double())
    log_mean = -0.5 * torch.log1p(values / gamma).sum() + 0.5 * beta * gradient @ inverse @ gradient
    exact = obj.loss() - float(log_mean) / beta
    e = local_entropy(obj, gamma, 2000, beta)
    assert abs(e.value - exact) < 4.5 * e.stderr
    assert e.stderr < 0.1


def test_a_valley_that_no_draw_leaves_alive_is_said_not_to_converge() -> None:
    obj = quadratic(1e12 * torch.eye(3).double(), torch.zeros(3).double(), torch.ones(3).double())
    e = local_entropy(obj, 1.0, 8)
    assert math.isinf(e.value)
    assert not e.converged


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (low_pass_flatness, {"sigma": 0.0}),
        (low_pass_flatness, {"samples": 5}),
        (local_entropy, {"gamma": -1.0}),
        (local_entropy, {"beta": 0.0}),
        (local_entropy, {"samples": 2}),
    ],
)
def test_bad_arguments(function, arguments: dict) -> None:
    with pytest.raises(InputError):
        function(QUADRATIC.objective(), **arguments)
