"""Worst-case ascent against exact maxima: quadratics in ℓ2 and, where separable, ℓ∞; linear models; every iterate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.optimize import lsq_linear
from torch import Tensor, nn

from oracles.trust_region import l2_maximum, separable_linf_maximum
from problems import PROBLEMS
from sharpscope import Objective, worst_case_sharpness
from sharpscope.measures.perturbation import batched


class Quadratic(nn.Module):
    def __init__(self, hessian: Tensor, gradient: Tensor, centre: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(centre.clone())
        self.register_buffer("centre", centre)
        self.register_buffer("hessian", hessian)
        self.register_buffer("slope", gradient)

    def forward(self) -> Tensor:
        d = self.theta - self.centre
        return self.slope @ d + 0.5 * d @ self.hessian @ d


def quadratic(hessian: Tensor, gradient: Tensor, centre: Tensor) -> Objective:
    model = Quadratic(hessian, gradient, centre)
    return Objective.from_batch_loss(model, [torch.zeros(3)], lambda m, batch: (m(), 3))


def draw(kind: str, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0]
    values = torch.randn(n, generator=g, dtype=torch.float64) ** 3
    if kind == "convex":
        values = values.abs()
    elif kind == "concave":
        values = -values.abs().clamp(max=3) - 0.3
    elif kind == "ill-conditioned concave":
        values = -(10 ** (-4 * torch.rand(n, generator=g, dtype=torch.float64)))
    elif kind == "close":
        values = torch.linspace(0, 1, n, dtype=torch.float64) ** 0.2
    centre = torch.randn(n, generator=g, dtype=torch.float64)
    centre[1] = 0.0
    return (basis * values) @ basis.T, torch.randn(n, generator=g, dtype=torch.float64), centre


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


def test_at_a_stationary_point_the_ascent_starts_in_a_random_direction() -> None:
    """The hard case of the secular equation: no gradient at all, the maximum along the top eigenvector."""
    hessian, _, centre = draw("convex", 8, 3)
    gradient = torch.zeros(8, dtype=torch.float64)
    top = float(torch.linalg.eigvalsh(hessian)[-1])
    obj = quadratic(hessian, gradient, centre)
    found = worst_case_sharpness(obj, 0.5, "l2", False, batch_size=None, steps=200).value
    assert found == pytest.approx(0.5 * top * 0.25, rel=1e-4)
    assert l2_maximum(gradient, hessian, torch.ones(8), 0.5) == pytest.approx(0.125 * top)


def test_random_starts_find_what_the_centre_hides() -> None:
    """A slope towards the lower of two hills: from δ = 0 the ascent ends there."""
    diagonal = torch.tensor([1.0, 30.0], dtype=torch.float64)
    gradient = torch.tensor([1.0, 0.0], dtype=torch.float64)  # nothing points along the steep coordinate
    obj = quadratic(diagonal.diag(), gradient, torch.ones(2, dtype=torch.float64))
    exact = separable_linf_maximum(gradient, diagonal, torch.ones(2), 1.0)
    one = worst_case_sharpness(obj, 1.0, "linf", False, batch_size=None, steps=50)
    several = worst_case_sharpness(obj, 1.0, "linf", False, batch_size=None, steps=50, starts=6)
    assert one.value < 0.2 * exact
    assert several.value == pytest.approx(exact, rel=1e-6)
    assert several.protocol["starts"] == 6


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(
    "how",
    [{}, {"step_size": 0.3}, {"step_size": 0.3, "direction": "sign"}, {"starts": 3}, {"direction": "sign"}],
    ids=str,
)
def test_every_iterate_is_feasible(
    norm: Any, adaptive: bool, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[Tensor] = []
    ask = batched._evaluate

    def recording(parts: Any, requests: Any, centre: Tensor) -> Any:
        visited.extend(delta for delta, _ in requests)
        return ask(parts, requests, centre)

    monkeypatch.setattr(batched, "_evaluate", recording)
    obj = next(p for p in PROBLEMS if p.name == "zero weights").objective(dtype=torch.float32)
    centre = obj.flat()
    worst_case_sharpness(obj, 0.2, norm, adaptive, batch_size=5, restarts=3, steps=12, **how)
    c = centre.abs() if adaptive else torch.ones_like(centre)
    assert len(visited) >= 12
    far = 0.0
    for delta in visited:
        assert not delta[c == 0].any()  # a zero weight cannot move
        u = (delta[c > 0] / c[c > 0]).double()
        size = float(u.abs().max() if norm == "linf" else u.norm())
        assert size <= 0.2 * (1 + 1e-6)
        far = max(far, size)
    assert far > 0.19


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_half_precision_weights_are_measured_at_their_exact_values(norm: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    x, y = torch.randn(12, 4), torch.randint(0, 3, (12,))
    half = model.to(torch.bfloat16)
    single = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    single.load_state_dict({k: v.float() for k, v in half.state_dict().items()})
    values = [
        worst_case_sharpness(
            Objective(m, nn.functional.cross_entropy, (x, y)), 0.1, norm, batch_size=None
        ).value
        for m in (half, single)
    ]
    assert values[0] == values[1] > 0
    assert next(half.parameters()).dtype == torch.bfloat16


def test_a_tensor_of_zeros_stays_zero_and_poisons_nothing() -> None:
    model = nn.Linear(3, 2).double()
    with torch.no_grad():
        model.weight.zero_()
    x = torch.randn(7, 3, dtype=torch.float64)
    obj = Objective(model, lambda o, t: (o * torch.tensor([1.0, -2.0])).sum(1).mean(), (x, x))
    exact = 0.1 * float((model.bias.detach().abs() * torch.tensor([1.0, 2.0])).sum())
    assert worst_case_sharpness(obj, 0.1, batch_size=None).value == pytest.approx(exact, rel=1e-9)
    with torch.no_grad():
        model.bias.zero_()  # nothing can move
    assert worst_case_sharpness(obj, 0.1, batch_size=None).value == 0.0
    assert worst_case_sharpness(obj, 0.1, "l2", batch_size=None).value == 0.0
