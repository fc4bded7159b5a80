"""The fast search: corrections from a subset of the data, and what it predicts to be missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sharpscope import Objective, top_eigenvalues
from sharpscope.curvature import davidson
from sharpscope.curvature.davidson import SecantUpdate, corrected


def regression(n: int, samples: int, heavy: float, rng: np.random.Generator) -> tuple[Objective, np.ndarray]:
    """Weighted least squares on heavy-tailed features: a Hessian that a subset sees only with noise."""
    torch.manual_seed(0)  # importance goes by the slopes, which the model's weights make
    scales = rng.gamma(0.5, 1.0, n) + 1e-3
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    x = (rng.standard_t(heavy, size=(samples, n)) * np.sqrt(scales)) @ q.T
    sign = rng.choice([-0.3, 1.0, 1.0], size=(samples, 1))  # negative curvature too
    hessian = (x * sign).T @ x / samples
    model = nn.Linear(n, 1, bias=False).double()
    batch = torch.as_tensor(x), torch.as_tensor(sign)
    obj = Objective(model, lambda o, t: (0.5 * t * o.square()).mean(), batch)
    return obj, np.linalg.eigvalsh(hessian)[::-1]


def drifting(
    trial: int, rng: np.random.Generator, two_signs: bool = False
) -> list[tuple[Objective, np.ndarray]]:
    """Four checkpoints of one weighted least-squares problem, each with its spectrum."""
    torch.manual_seed(0)
    n, samples, drift = (
        int(rng.integers(40, 100)),
        int(rng.integers(3500, 9000)),
        float(rng.choice([0.02, 0.1])),
    )
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    x = (rng.standard_t([6, 30][trial % 2], size=(samples, n)) * np.sqrt(rng.gamma(0.5, 1.0, n) + 1e-3)) @ q.T
    weights = rng.choice([-0.3, 1.0, 1.0], size=(samples, 1))
    if two_signs:  # curved upward along one direction, downward along another
        weights = np.sign((x @ q[:, :1]) ** 2 - (x @ q[:, 1:2]) ** 2)
    checkpoints = []
    for _ in range(4):
        batch = torch.as_tensor(x), torch.as_tensor(weights)
        model = nn.Linear(n, 1, bias=False).double()
        obj = Objective(model, lambda o, t: (0.5 * t * o.square()).mean(), batch)
        checkpoints.append((obj, np.linalg.eigvalsh((x * weights).T @ x / samples)[::-1]))
        weights = weights * (1 + drift * rng.normal(size=weights.shape))
        x = x @ (np.eye(n) + 0.3 * drift * rng.normal(size=(n, n)) / n**0.5)
    return checkpoints


def _fast(obj: Objective, *args: object, **options: object):  # type: ignore[no-untyped-def]
    return top_eigenvalues(obj, *args, mode="fast", **options)  # type: ignore[arg-type]


def test_a_subset_saves_products_of_all_the_data() -> None:
    obj, spectrum = regression(60, 8000, 30.0, np.random.default_rng(5))
    sure, fast = top_eigenvalues(obj), _fast(obj)
    assert fast.value == pytest.approx(spectrum[0], rel=1e-3)
    assert "davidson" in str(fast.protocol["algorithm"])
    assert fast.protocol["subsets"] == "by importance"
    assert np.isnan(fast.confidence)
    assert fast.products < 0.6 * sure.products
    assert fast.cost < sure.cost
    assert fast.products != round(fast.products)  # a subset's products count by its share


def test_small_data_takes_no_subset_and_says_how_sure_that_leaves_one() -> None:
    obj, spectrum = regression(60, 1000, 30.0, np.random.default_rng(5))
    sure, fast = top_eigenvalues(obj), _fast(obj)
    assert "stopped by residuals" in str(fast.protocol["algorithm"])
    assert fast.products < sure.products
    assert fast.confidence < sure.confidence
    assert fast.value == pytest.approx(spectrum[0], rel=1e-3)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("drawn", ["by importance", "uniform"])
def test_where_few_samples_make_the_curvature(k: int, drawn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(k)
    if drawn == "uniform":
        monkeypatch.setattr("sharpscope.curvature.search_run.importance_scores", lambda obj: None)
    inside = flagged = unlike = 0
    for trial in range(24):
        obj, spectrum = regression(int(rng.integers(30, 90)), int(rng.integers(4000, 8000)), 1.6, rng)
        e = _fast(obj, k, tol=10 ** rng.uniform(-4, -2.5), seed=trial)
        unlike += e.protocol["algorithm"] == "lanczos"
        flagged += int(e.converged.sum())
        inside += int(((np.abs(e.values - spectrum[:k]) <= e.error_estimates) & e.converged).sum())
    assert flagged >= 23 * k
    assert inside >= 0.97 * flagged
    if drawn == "uniform":  # a subset that is unlike the data is not believed: the certified search follows
        assert unlike >= 12
    else:
        assert unlike == 0


def test_an_earlier_result_saves_products_along_a_drift() -> None:
    rng = np.random.default_rng(7)
    inside = flagged = 0
    products = alone = 0.0
    for trial in range(12):
        tol, start = 10 ** rng.uniform(-4, -2.5), None
        for number, (obj, spectrum) in enumerate(drifting(trial, rng)):
            e = _fast(obj, 1, tol=tol, seed=trial, start=start)
            flagged += bool(e.converged[0])
            inside += bool(e.converged[0]) and abs(e.value - spectrum[0]) <= e.error_estimates[0]
            if number > 1:  # the first search was not told to observe
                products += e.products
                alone += _fast(obj, 1, tol=tol, seed=trial).products
            start = e
    assert flagged >= 47
    assert inside >= 0.97 * flagged
    assert products < alone


def test_both_ends_are_followed_apart() -> None:
    start = None
    for obj, spectrum in drifting(1, np.random.default_rng(3), two_signs=True):
        start = _fast(obj, 1, "both", start=start)
        np.testing.assert_allclose(start.values, spectrum[[0, -1]], rtol=1e-3)
    assert set(start.secant_updates) == {1.0, -1.0}


@pytest.mark.parametrize("steps", [2, 5, 30])
def test_what_is_predicted_to_be_missing_counts_what_the_solve_leaves_out(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(davidson, "INNER", steps)
    g = torch.Generator().manual_seed(1)
    b = torch.diag(torch.linspace(0.0, 1.0, 80, dtype=torch.float64))
    basis = torch.linalg.qr(torch.randn(80, 3, generator=g, dtype=torch.float64))[0].T
    residual = torch.randn(80, generator=g, dtype=torch.float64)
    residual -= basis.T @ (basis @ residual)
    off = torch.eye(80, dtype=torch.float64) - basis.T @ basis
    exact = float(
        residual @ torch.linalg.solve(1.05 * torch.eye(80, dtype=torch.float64) - off @ b @ off, residual)
    )
    found = corrected(lambda v: v @ b, basis, residual, 1.05)
    without = float(residual @ found.vector)
    assert without < exact
    # the smallest eigenvalue of the recurrence stands in for the true one, so the bound may fall short by a little
    assert exact * 0.95 <= found.missing
    if steps == 2:
        assert without < 0.8 * exact


def test_a_direction_steeper_than_the_ritz_value_is_returned() -> None:
    b = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64))
    basis = torch.eye(4, dtype=torch.float64)[1:2]  # a Ritz vector that is not the leading one
    residual = torch.tensor([0.1, 0.0, 0.1, 0.1], dtype=torch.float64)
    found = corrected(lambda v: v @ b, basis, residual, 2.0)
    assert found.missing == float("inf")
    assert found.steeper is not None
    assert float(found.steeper @ b @ found.steeper) > 2.0


def test_a_secant_update_is_symmetric_and_exact_where_it_was_seen() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(30, 30, generator=g, dtype=torch.float64)
    a = a + a.T
    first, second = (
        torch.linalg.qr(torch.randn(30, 2, generator=g, dtype=torch.float64))[0].T for _ in range(2)
    )
    one = SecantUpdate.observed(first, first @ a, None, 4)
    both = SecantUpdate.observed(second, second @ a, one, 4)
    for update, rows in ((one, first), (both, second), (both, first)):
        torch.testing.assert_close(update(rows), rows @ a)
    dense_e = both(torch.eye(30, dtype=torch.float64))
    torch.testing.assert_close(dense_e, dense_e.T)
    torch.testing.assert_close(both(first[0]), first[0] @ a)
    assert torch.linalg.matrix_rank(dense_e) <= 8
    torch.testing.assert_close(both.basis @ both.basis.T, torch.eye(4, dtype=torch.float64))
    assert len(SecantUpdate.observed(second, second @ a, one, 3).basis) == 3
    assert len(SecantUpdate.observed(first, first @ a, one, 4).basis) == 2  # nothing new in the older ones
