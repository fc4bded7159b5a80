from __future__ import annotations

import pytest
import torch
from scipy.optimize import lsq_linear

from oracles.quadratic import draw, quadratic
from oracles.trust_region import separable_linf_maximum
from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures import epsilon_sharpness
from sharpscope.measures.epsilon_sharpness import _random_directions

RELU = next(p for p in PROBLEMS if p.name == "mlp relu")


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_the_box_of_a_separable_quadratic_is_known(epsilon: float) -> None:
    _, gradient, centre = draw("convex", 12, 3)
    diagonal = 2 * torch.randn(12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    obj = quadratic(diagonal.diag(), gradient, centre)
    exact = separable_linf_maximum(gradient, diagonal, centre.abs() + 1, epsilon)
    e = epsilon_sharpness(obj, epsilon, steps=200)
    assert e.value == pytest.approx(100 * exact / (1 + obj.loss()), rel=1e-4)


def test_in_a_subspace_the_maximum_is_that_of_bounded_least_squares() -> None:
    """With a concave quadratic, z ↦ g·Aᵀz + ½ zᵀAHAᵀz is largest where a least-squares distance is smallest."""
    hessian, gradient, centre = draw("ill-conditioned concave", 12, 1)
    obj = quadratic(hessian, gradient, centre)
    directions = _random_directions(obj, 5, 7)
    inner = directions @ hessian @ directions.T
    slope = directions @ gradient
    root = torch.linalg.cholesky(-inner)
    target = torch.linalg.solve(root, slope)
    coordinates = torch.linalg.pinv(directions.T) @ centre
    bound = (0.4 * (coordinates.abs() + 1)).numpy()
    z = torch.from_numpy(lsq_linear(root.T.numpy(), target.numpy(), (-bound, bound), method="bvls").x)
    exact = float(slope @ z + 0.5 * z @ inner @ z)
    e = epsilon_sharpness(obj, 0.4, steps=300, subspace=5, seed=7)
    assert e.value == pytest.approx(100 * exact / (1 + obj.loss()), rel=1e-4)


def test_a_subspace_of_all_directions_is_no_larger_than_needed_and_a_part_rises_less() -> None:
    obj = RELU.objective()
    whole = epsilon_sharpness(obj, 0.05, steps=60).value
    few = epsilon_sharpness(obj, 0.05, steps=60, subspace=3).value
    assert 0 < few < whole


@pytest.mark.parametrize("arguments", [{"epsilon": 0.0}, {"steps": 0}, {"subspace": 0}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        epsilon_sharpness(RELU.objective(), **arguments)
