"""SAM under a GradScaler, and gradients that are not finite with and without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sharpscope import ASAM, SAM
from sharpscope.errors import InputError

BAD = (2, 5)  # steps whose gradient overflows


def loss_of(model: nn.Module, step: int, bad: bool) -> torch.Tensor:
    draws = torch.Generator().manual_seed(step)
    x, y = torch.randn(9, 4, generator=draws), torch.randint(0, 3, (9,), generator=draws)
    loss = nn.functional.cross_entropy(model(x), y)
    return loss * (float("inf") if bad else 1.0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def with_scaler(
    optimizer: Any, model: nn.Module, bad_at: str = "both", unscale: bool = False
) -> list[tuple[float, bool]]:
    """Train 8 steps; the scale after each and whether the weights moved."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=3)
    record = []
    for step in range(8):
        before = [p.detach().clone() for p in model.parameters()]
        if isinstance(optimizer, SAM):
            scaler.scale(loss_of(model, step, step in BAD and bad_at in ("both", "first"))).backward()
            optimizer.first_step(zero_grad=True)
        scaler.scale(loss_of(model, step, step in BAD and bad_at in ("both", "second"))).backward()
        if unscale:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        moved = not all(torch.equal(a, p) for a, p in zip(before, model.parameters(), strict=True))
        assert all(p.isfinite().all() for p in model.parameters())
        record.append((scaler.get_scale(), moved))
    return record


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("bad_at", ["both", "first", "second"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_step_that_overflows_is_skipped_as_the_base_s_users_expect(
    adaptive: bool, bad_at: str, unscale: bool
) -> None:
    plain, ours = network(), network()
    expected = with_scaler(torch.optim.SGD(plain.parameters(), lr=0.1), plain, unscale=unscale)
    optimizer = (ASAM if adaptive else SAM)(ours.parameters(), rho=0.1, lr=0.1)
    assert with_scaler(optimizer, ours, bad_at, unscale) == expected
    assert [moved for _, moved in expected] == [step not in BAD for step in range(8)]


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_without_a_radius_it_is_the_base_under_the_same_scaler(fused: bool, unscale: bool) -> None:
    plain, ours = network(), network()
    options = {"lr": 0.01, "fused": fused}
    with_scaler(torch.optim.Adam(plain.parameters(), **options), plain, unscale=unscale)  # type: ignore[arg-type]
    with_scaler(SAM(ours.parameters(), torch.optim.Adam, rho=0.0, **options), ours, unscale=unscale)
    for a, b in zip(plain.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("decay_in_ascent", [False, True])
def test_the_loss_scale_does_not_change_the_perturbation(decay_in_ascent: bool) -> None:
    moves = []
    for scale in (1.0, 2.0**10):
        model = network()
        optimizer = SAM(
            model.parameters(), rho=0.1, lr=0.1, weight_decay=0.5, decay_in_ascent=decay_in_ascent
        )
        (loss_of(model, 0, False) * scale).backward()
        optimizer.first_step(grad_scale=scale)
        moves.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(moves[0], moves[1], rtol=0, atol=1e-7)


def test_without_a_scaler_nan_reaches_the_weights_as_through_the_base() -> None:
    for build in (torch.optim.SGD, SAM):
        model = network()
        optimizer: Any = build(model.parameters(), lr=0.1)

        def closure(optimizer: Any = optimizer, model: nn.Module = model) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, 0, bad=True)
            loss.backward()
            return loss

        optimizer.step(closure)
        assert all(p.isnan().any() for p in model.parameters())


def test_a_scaler_s_step_without_a_first_step_is_refused() -> None:
    model = network()
    optimizer, scaler = SAM(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model, 0, False)).backward()
    with pytest.raises(InputError, match="first_step"):
        scaler.step(optimizer)
