"""Projected gradient ascent: where it starts, every iterate's feasibility, precision and zero weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oracles.quadratic import draw, quadratic
from oracles.trust_region import l2_maximum, separable_linf_maximum
from problems import PROBLEMS
from sharpscope import Objective, worst_case_sharpness
from sharpscope.measures.perturbation import batched


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


def test_fixed_steps_count_the_highest_iterate_not_the_last() -> None:
    """One coordinate reaches its maximum at once; steps in the other overshoot further and further."""
    gradient = torch.tensor([1.0, 0.01], dtype=torch.float64)
    curvature = torch.tensor([-1.0, -2.3], dtype=torch.float64)
    obj = quadratic(curvature.diag(), gradient, torch.ones(2, dtype=torch.float64))
    delta, losses = torch.zeros(2, dtype=torch.float64), []
    for _ in range(12):
        delta = delta + gradient + curvature * delta
        losses.append(float(gradient @ delta + 0.5 * (curvature * delta**2).sum()))
    assert 0 < losses[-1] < 0.99 * max(losses)
    e = worst_case_sharpness(obj, 50.0, "l2", False, batch_size=None, steps=12, step_size=1.0)
    assert e.value == pytest.approx(max(losses), rel=1e-12)
