"""Ascent by L-BFGS against exact maxima: quadratics in ℓ2 and, where bounded least squares applies, ℓ∞."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import lsq_linear

from oracles.quadratic import draw, quadratic
from oracles.trust_region import l2_maximum, separable_linf_maximum
from sharpscope import worst_case_sharpness


@pytest.mark.parametrize("kind", ["convex", "indefinite", "concave", "ill-conditioned concave", "close"])
@pytest.mark.parametrize("radius", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("adaptive", [True, False])
def test_l2_maximum_of_a_quadratic_by_the_secular_equation(kind: str, radius: float, adaptive: bool) -> None:
    for seed in range(3):
        hessian, gradient, centre = draw(kind, 12, seed)
        scale = centre.abs() if adaptive else torch.ones(12, dtype=torch.float64)
        exact = l2_maximum(gradient, hessian, scale, radius)
        obj = quadratic(hessian, gradient, centre)
        found = worst_case_sharpness(obj, radius, "l2", adaptive, batch_size=None, steps=100).value
        assert found == pytest.approx(exact, rel=1e-4)
        assert found <= exact * (1 + 1e-9)


@pytest.mark.parametrize("radius", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("adaptive", [True, False])
def test_linf_maximum_of_a_concave_quadratic_by_bounded_least_squares(radius: float, adaptive: bool) -> None:
    """g·δ − ½‖Aδ‖² with Aᵀb = g is largest where ‖Aδ − b‖ is smallest; coordinates are coupled, some at a bound."""
    for seed in range(3):
        hessian, gradient, centre = draw("ill-conditioned concave", 12, seed)
        scale = centre.abs() if adaptive else torch.ones(12, dtype=torch.float64)
        moving = scale > 0
        a = torch.linalg.cholesky(-hessian).T[:, moving]
        b = torch.linalg.solve(torch.linalg.cholesky(-hessian), gradient)
        bound = radius * scale[moving]
        delta = torch.from_numpy(lsq_linear(a.numpy(), b.numpy(), (-bound, bound), method="bvls").x)
        exact = float(gradient[moving] @ delta - 0.5 * (a @ delta).square().sum())
        obj = quadratic(hessian, gradient, centre)
        found = worst_case_sharpness(obj, radius, "linf", adaptive, batch_size=None, steps=200).value
        assert found == pytest.approx(exact, rel=1e-4)
        assert found <= exact * (1 + 1e-9)


def test_at_the_maximum_the_ascent_stops() -> None:
    hessian, gradient, centre = draw("concave", 12, 1)
    obj = quadratic(hessian, gradient, centre)
    e = worst_case_sharpness(obj, 20.0, "l2", batch_size=None, steps=5000)
    assert 20 < e.cost["gradients"] < 200


@pytest.mark.parametrize("radius", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("adaptive", [True, False])
def test_linf_maximum_of_a_separable_quadratic(radius: float, adaptive: bool) -> None:
    for seed in range(6):
        _, gradient, centre = draw("convex", 15, seed)
        diagonal = 2 * torch.randn(15, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        scale = centre.abs() if adaptive else torch.ones(15, dtype=torch.float64)
        exact = separable_linf_maximum(gradient, diagonal, scale, radius)
        obj = quadratic(diagonal.diag(), gradient, centre)
        found = worst_case_sharpness(obj, radius, "linf", adaptive, batch_size=None, steps=200).value
        assert found == pytest.approx(exact, rel=1e-4)
        assert found <= exact * (1 + 1e-9)
