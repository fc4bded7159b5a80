"""Deadlines, progress and interrupts of a long call."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpscope import InputError, NotConvergedWarning, Objective, top_eigenvalues
from sharpscope.curvature.call_limits import CallProgress
from sharpscope.curvature.operators import CurvatureProducts


def _objective() -> Objective:
    torch.manual_seed(0)
    x, y = torch.randn(400, 10), torch.randint(0, 3, (400,))
    model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 3))
    return Objective(model, nn.functional.cross_entropy, (x, y), chunk_size=50)


def test_the_first_line_comes_before_the_first_product_is_done() -> None:
    seen: list[CallProgress] = []
    top_eigenvalues(_objective(), progress=seen.append)
    assert seen[0].products == 0
    assert seen[0].seconds_per_product > 0
    assert "to come" in str(seen[0])


def test_a_deadline_returns_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sharpscope.curvature.call_limits.time.perf_counter", lambda: now[0])
    multiply = CurvatureProducts.__call__

    def slow(self: CurvatureProducts, block: torch.Tensor) -> torch.Tensor:
        now[0] += 1.0
        return multiply(self, block)

    monkeypatch.setattr(CurvatureProducts, "__call__", slow)
    exact = top_eigenvalues(_objective(), tol=1e-5)
    with pytest.warns(NotConvergedWarning, match="deadline=4.5 passed"):
        e = top_eigenvalues(_objective(), tol=1e-5, deadline=4.5)
    assert not e.converged[0]
    assert 3 <= e.products <= 5
    assert abs(e.value - exact.value) <= e.error_estimates[0]
    with pytest.raises(InputError, match="at least one product"):
        top_eigenvalues(_objective(), deadline=0.5)


@pytest.mark.parametrize("answer", ["raise", "return"])
def test_an_interrupt_raises_or_returns(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply, calls = CurvatureProducts.__call__, []

    def interrupted(self: CurvatureProducts, block: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return multiply(self, block)

    monkeypatch.setattr(CurvatureProducts, "__call__", interrupted)
    if answer == "raise":
        with pytest.raises(KeyboardInterrupt):
            top_eigenvalues(_objective())
    else:
        with pytest.warns(NotConvergedWarning, match="interrupted"):
            e = top_eigenvalues(_objective(), on_interrupt="return")
        assert e.products == 5
        assert e.error_estimates[0] > 0


@pytest.mark.parametrize(
    "options", [{"deadline": 0}, {"progress": 3}, {"on_interrupt": "wait"}, {"mode": "slow"}]
)
def test_bad_arguments(options: dict) -> None:
    with pytest.raises(InputError):
        top_eigenvalues(_objective(), **options)
