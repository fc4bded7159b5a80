"""The certified search, step by step, on matrices given outright."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sharpscope.curvature.certified_search import CertifiedSearch
from sharpscope.curvature.wanted import Wanted, Which


def _search(
    values: np.ndarray,
    k: int = 1,
    which: Which = "largest",
    tol: float = 1e-3,
    *,
    seed: int = 0,
    start: torch.Tensor | None = None,
    room: int = 400,
    dtype: torch.dtype = torch.float64,
    most: int = 2000,
) -> CertifiedSearch:
    """Run a search on a diagonal matrix to its end."""
    diagonal, n = torch.as_tensor(values, dtype=dtype), len(values)
    draws = torch.Generator().manual_seed(seed)

    def fresh() -> torch.Tensor:
        return torch.randn(n, generator=draws, dtype=torch.float64).to(dtype)

    start = torch.zeros(0, n, dtype=dtype) if start is None else start
    search = CertifiedSearch(lambda v: v * diagonal, Wanted(k, which, tol, 0.99), fresh, start, room)
    while search.outcome == "running" and search.products < most:
        search.step()
    return search


def _spread(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 0.9, n)


def test_a_deflated_probe_finds_what_a_single_vector_cannot_see() -> None:
    values = _spread(200)
    values[:4] = 2.0, 2.0, 2.0, 1.0  # one vector sees a multiple eigenvalue once
    search = _search(values, 3)
    assert search.runs > 1
    np.testing.assert_allclose(search.assess().values, [2, 2, 2], rtol=1e-6)


def test_one_eigenvalue_takes_a_single_run() -> None:
    search = _search(np.append(_spread(200), 1.0))
    assert search.runs == 1
    assert search.outcome == "finished"


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude", "both"])
def test_memory_that_is_full_restarts_and_still_certifies(which: Which) -> None:
    values = np.concatenate([[3.0, 2.9, 2.5, -2.8, -2.6], np.random.default_rng(0).uniform(-2, 2, 500)])
    search = _search(values, 2, which, room=24)
    found = search.assess()
    ordered = np.sort(values)
    expected = {
        "largest": ordered[::-1][:2],
        "smallest": ordered[:2],
        "magnitude": np.array([3.0, 2.9]),
        "both": np.concatenate([ordered[::-1][:2], ordered[:2]]),
    }[which]
    assert search.outcome == "finished"
    np.testing.assert_allclose(found.values, expected, rtol=1e-3)
    assert (np.abs(found.values - expected) <= found.errors).all()
    vectors = search.vectors(found)
    torch.testing.assert_close(
        vectors @ vectors.T, torch.eye(len(expected), dtype=torch.float64), atol=1e-9, rtol=0
    )
    residuals = (vectors * torch.as_tensor(values) - torch.as_tensor(found.values)[:, None] * vectors).norm(
        dim=1
    )
    np.testing.assert_allclose(residuals.numpy(), found.residuals, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("k", [1, 3])
def test_a_start_near_the_answer_saves_products_and_a_wrong_one_costs_no_truth(k: int) -> None:
    values = np.concatenate([[1.5, 1.4, 1.3], _spread(300)])
    axes = torch.eye(303, dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    near = axes[:k] + 1e-5 * torch.randn(k, 303, generator=g, dtype=torch.float64)
    drifted = axes[:k] + 1e-2 * torch.randn(k, 303, generator=g, dtype=torch.float64)
    wrong = axes[10 : 10 + k]  # eigenvectors of others, with residuals of zero
    alone, close, moved, misled = (_search(values, k, start=s) for s in (None, near, drifted, wrong))
    assert close.products < alone.products
    assert moved.products <= alone.products + 4
    for search in (alone, close, moved, misled):
        assert search.outcome == "finished"
        np.testing.assert_allclose(search.assess().values, values[:k], rtol=1e-3)


def test_a_start_of_dependent_vectors_is_taken_for_what_it_is_worth() -> None:
    values = np.append(_spread(60), 1.0)
    one = torch.randn(61, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    search = _search(values, start=torch.stack([one, one, 2 * one, 0 * one]))
    assert search.assess().values[0] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude", "both"])
@pytest.mark.parametrize(
    "values",
    [
        np.zeros(40),
        np.array([2.0]),
        np.array([-3.0, -3.0]),
        -np.linspace(1, 2, 50),
        np.concatenate([np.ones(20), -np.ones(20)]),
        np.append(np.zeros(99), 1e-3),
        np.concatenate([[5.0], np.full(80, 1e-7)]),
        1e20 * np.linspace(0.5, 1, 30),
        1e-20 * np.linspace(-1, 1, 31),
    ],
    ids=["zero", "one", "double", "negative", "two values", "rank one", "rank one and noise", "huge", "tiny"],
)
def test_odd_spectra(values: np.ndarray, which: Which) -> None:
    ordered = np.sort(values)
    for k in {1, min(3, len(values)), len(values)}:
        search = _search(values, k, which, 1e-6)
        found = search.assess()
        expected = {
            "largest": ordered[::-1][:k],
            "smallest": ordered[:k],
            "magnitude": np.sort(np.abs(values))[::-1][:k],
            "both": np.concatenate([ordered[::-1][:k], ordered[:k]]),
        }[which]
        given = np.abs(found.values) if which == "magnitude" else found.values
        assert search.outcome != "running"
        assert len(given) == len(expected)
        assert (
            np.abs(np.sort(given) - np.sort(expected)) <= found.errors.max() + 1e-15 * np.abs(values).max()
        ).all()


def test_precision_ends_a_search_that_asks_for_more() -> None:
    values = np.concatenate([[1.0, 0.8], _spread(58) * 0.5])
    search = _search(values, tol=1e-7, dtype=torch.float32)
    assert search.outcome == "limited by precision"
    assert search.products <= 40
    found = search.assess()
    assert abs(found.values[0] - 1.0) <= found.errors[0] < 5e-6
