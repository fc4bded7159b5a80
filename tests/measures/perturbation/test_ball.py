from __future__ import annotations

import pytest
import torch

from sharpscope.measures.perturbation.ball import Ball, project


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("adaptive", [True, False])
def test_projection_is_feasible_and_leaves_the_inside_alone(norm: str, adaptive: bool) -> None:
    torch.manual_seed(0)
    centre = torch.randn(50)
    centre[7] = 0
    c = centre.abs() if adaptive else torch.ones(50)
    for size in (1e-3, 1.0, 1e3):
        inside = project(size * torch.randn(50), c, 0.2, norm)  # type: ignore[arg-type]
        u = inside[c > 0] / c[c > 0]
        assert float(u.abs().max() if norm == "linf" else u.norm()) <= 0.2 * (1 + 1e-6)
        torch.testing.assert_close(project(inside, c, 0.2, norm), inside)  # type: ignore[arg-type]
        if adaptive:
            assert inside[7] == 0
    assert not project(torch.ones(3), torch.zeros(3), 1.0, norm).any()  # type: ignore[arg-type]


def test_negative_weights_move_both_ways() -> None:
    """Bounds w ± ρ|w|, not the swapped w ± ρw of a negative weight, which pins it to one side."""
    negative = torch.tensor([-2.0, -2.0])
    moved = project(torch.tensor([5.0, -5.0]), negative.abs(), 0.1, "linf")
    torch.testing.assert_close(moved, torch.tensor([0.2, -0.2]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_steepest_direction_beats_every_other_of_its_length(norm: str) -> None:
    g = torch.Generator().manual_seed(0)
    scale = torch.rand(7, generator=g, dtype=torch.float64)
    scale[2] = 0
    gradient = torch.randn(7, generator=g, dtype=torch.float64)
    ball = Ball(scale, 1.0, norm)  # type: ignore[arg-type]
    best = ball.steepest(gradient)
    u = best[scale > 0] / scale[scale > 0]
    assert float(u.abs().max() if norm == "linf" else u.norm()) == pytest.approx(1.0)
    assert best[2] == 0
    for _ in range(200):
        other = ball.project(3 * torch.randn(7, generator=g, dtype=torch.float64))
        assert float(gradient @ other) <= float(gradient @ best) * (1 + 1e-12)
    assert not ball.steepest(torch.zeros(7, dtype=torch.float64)).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_points_lie_in_the_ball_and_fill_it(norm: str) -> None:
    scale = torch.tensor([1.0, 0.0, 2.0, 0.5])
    ball = Ball(scale, 0.3, norm)  # type: ignore[arg-type]
    g = torch.Generator().manual_seed(0)
    points = torch.stack([ball.random(g) for _ in range(400)])  # (400, 4)
    u = points[:, scale > 0] / scale[scale > 0]
    sizes = u.abs().amax(1) if norm == "linf" else u.norm(dim=1)
    assert float(sizes.max()) <= 0.3 * (1 + 1e-6)
    assert not points[:, 1].any()
    assert (points[:, [0, 2, 3]].mean(0).abs() < 0.05 * scale[[0, 2, 3]]).all()
    assert float(sizes.min()) < 0.2
    if norm == "l2":  # where every coordinate can move
        on_sphere = Ball(scale + 1, 0.3, "l2").random(g) / (scale + 1)
        assert float(on_sphere.norm()) == pytest.approx(0.3, rel=1e-6)
