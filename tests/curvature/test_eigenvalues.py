from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from oracles.dense import dense
from problems import PROBLEMS, Problem
from sharpscope import InputError, NotConvergedWarning, Objective, top_eigenvalues

each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)


@each_problem
@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_extreme_eigenvalues_agree_with_the_dense_spectrum(problem: Problem, which: str) -> None:
    obj = problem.objective()
    spectrum = np.linalg.eigvalsh(dense(obj)[2].numpy())
    key = {"largest": -spectrum, "smallest": spectrum, "magnitude": -np.abs(spectrum)}[which]
    exact = spectrum[np.argsort(key, kind="stable")]
    k = min(3, obj.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        e = top_eigenvalues(obj, k, which, tol=1e-8)  # type: ignore[arg-type]
    scale = np.abs(spectrum).max()
    np.testing.assert_allclose(np.sort(e.values), np.sort(exact[:k]), rtol=1e-7, atol=1e-9 * scale)
    zero = np.abs(e.values) <= e.error_estimates  # no relative error can be reached of what is zero
    assert (e.converged | zero).all()
    assert (np.abs(np.sort(e.values) - np.sort(exact[:k])) <= e.error_estimates.max() + 1e-12 * scale).all()
    torch.testing.assert_close(e.vectors @ e.vectors.T, torch.eye(k, dtype=torch.float64), atol=1e-10, rtol=0)
    true_residuals = (obj.hvp(e.vectors) - torch.as_tensor(e.values)[:, None] * e.vectors).norm(dim=1)
    np.testing.assert_allclose(true_residuals, e.residuals, atol=1e-9 * scale)


def _with_spectrum(spectrum: list[float], seed: int = 0) -> Objective:
    """A quadratic whose Hessian has a given non-negative spectrum in a random basis."""
    n = len(spectrum)
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))
    x = torch.diag(torch.tensor(spectrum, dtype=torch.float64).sqrt()) @ q * n**0.5
    model = nn.Linear(n, 1, bias=False).double()
    return Objective(
        model, lambda o, t: 0.5 * (o - t).square().mean(), (x, torch.zeros(n, 1, dtype=torch.float64))
    )


def test_lambda_max_is_the_largest_algebraic_eigenvalue() -> None:
    obj = next(p for p in PROBLEMS if p.name == "negative curvature").objective()
    low, high = (float(top_eigenvalues(obj, 1, w).values[0]) for w in ("smallest", "largest"))  # type: ignore[arg-type]
    assert low < 0 < high
    assert abs(low) > high
    assert top_eigenvalues(obj, 1, "magnitude").value == pytest.approx(low, rel=1e-3)


def test_converged_values_do_not_return_as_ghosts() -> None:
    spectrum = [100.0, 30.0, *np.linspace(0.01, 1, 118)]
    e = top_eigenvalues(_with_spectrum(spectrum), 4, tol=1e-6, max_products=120)
    np.testing.assert_allclose(e.values, sorted(spectrum, reverse=True)[:4], rtol=1e-6)


def test_multiple_eigenvalues_are_all_found() -> None:
    e = top_eigenvalues(_with_spectrum([7.0, 7.0, 7.0, 2.0, 1.0, 0.0, 0.0]), 5, tol=1e-9)
    np.testing.assert_allclose(e.values, [7, 7, 7, 2, 1], rtol=1e-9)


def test_an_answer_cut_short_is_flagged_and_warned_about() -> None:
    obj = _with_spectrum(list(np.linspace(0.99, 1.0, 200)))
    with pytest.warns(NotConvergedWarning, match="raise max_products"):
        e = top_eigenvalues(obj, 1, tol=1e-6, max_products=5)
    assert not e.converged.any()
    assert e.products <= 5 + 30  # a round that has begun is finished
    assert e.error_estimates[0] > 1e-6


def test_eight_clustered_eigenvalues_return_no_copies() -> None:
    spectrum = [5.0, 5.0 - 1e-6, 4.999, 4.99, 4.98, 4.9, 4.9, 4.85, *np.linspace(-1, 1, 150)]
    obj = _with_spectrum([v + 1 for v in spectrum])
    e = top_eigenvalues(obj, 8, tol=1e-7, max_products=2000)
    np.testing.assert_allclose(e.values, [v + 1 for v in spectrum[:8]], rtol=1e-7)
    assert e.converged.all()
    torch.testing.assert_close(e.vectors @ e.vectors.T, torch.eye(8, dtype=torch.float64), atol=1e-10, rtol=0)


def test_magnitude_lists_a_pair_once_where_both_ends_meet() -> None:
    obj = next(p for p in PROBLEMS if p.name == "quadratic, multiple eigenvalues").objective()
    e = top_eigenvalues(obj, 4, "magnitude", tol=1e-8)
    np.testing.assert_allclose(e.values, [5, 2, 2, 0.1], rtol=1e-7)


def test_same_seed_same_bits_other_seed_same_value() -> None:
    obj = PROBLEMS[1].objective()
    a, b, c = (top_eigenvalues(obj, seed=s, tol=1e-9) for s in (1, 1, 2))
    assert a.value == b.value
    assert torch.equal(a.vectors, b.vectors)
    assert c.value == pytest.approx(a.value, rel=1e-8)


def test_float32_reaches_a_reachable_tolerance() -> None:
    obj = PROBLEMS[1].objective(dtype=torch.float32)
    exact = np.linalg.eigvalsh(dense(PROBLEMS[1].objective())[2].numpy())[-1]
    e = top_eigenvalues(obj, tol=1e-5)
    assert e.value == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"k": 0}, "k must"),
        ({"k": 10**6}, "k must"),
        ({"tol": float("nan")}, "tol"),
        ({"which": "top"}, "which"),
        ({"max_products": 0}, "max_products"),
        ({"start": torch.ones(3)}, "start must hold"),
    ],
)
def test_bad_arguments(arguments: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence), warnings.catch_warnings():
        top_eigenvalues(PROBLEMS[0].objective(), **arguments)


def test_a_space_nearly_filled_by_the_search_is_looked_through_to_its_end() -> None:
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 1.0, 1.0])
    for seed in range(5):
        torch.manual_seed(seed)
        obj = Objective(
            nn.Linear(3, 1, bias=False), lambda o, t: 0.5 * (o - t).square().mean(), (x, x[:, :1])
        )
        truth = float(torch.linalg.eigvalsh(x.double().T @ x.double() / 4000)[-1])
        assert top_eigenvalues(obj, seed=seed).value == pytest.approx(truth, rel=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 13, 30])
def test_a_search_follows_on_an_earlier_one_in_spaces_that_its_model_nearly_spans(size: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(size, 1, bias=False).double()
    x = torch.randn(2 * size, size, dtype=torch.float64)
    exact = torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item()
    half_square = lambda outputs, targets: (outputs - targets).square().mean() / 2  # noqa: E731
    obj = Objective(model, half_square, (x, torch.zeros(len(x), 1, dtype=torch.float64)))
    first = top_eigenvalues(obj)
    for mode in ("certified", "fast"):
        found = top_eigenvalues(obj, start=first, mode=mode)
        assert found.converged.all()
        assert found.values[0] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_few_parameters_and_many_samples_need_no_model(size: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(size, 1, bias=False).double()
    x = torch.randn(4000, size, dtype=torch.float64)
    x[7] *= 300
    exact = torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item()
    half_square = lambda outputs, targets: (outputs - targets).square().mean() / 2  # noqa: E731
    obj = Objective(model, half_square, (x, torch.zeros(len(x), 1, dtype=torch.float64)))
    for mode in ("certified", "fast"):
        found = top_eigenvalues(obj, mode=mode)
        assert found.converged.all()
        assert found.values[0] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("samples", [100, 4000])
def test_sums_of_terms_that_round_alike_are_within_what_is_claimed(dtype: torch.dtype, samples: int) -> None:
    beyond = 0.0
    for value in (0.1, 0.7, 1.1):
        x = torch.full((samples, 1), value, dtype=dtype)
        model = nn.Linear(1, 1, bias=False).to(dtype)
        obj = Objective(model, lambda o, t: (o - t).square().mean() / 2, (x, 0 * x))
        exact = Fraction(float(x[0, 0])) ** 2
        found = top_eigenvalues(obj)
        error = abs(float(Fraction(found.value) - exact))
        assert error <= found.error_estimates[0]
        beyond = max(beyond, error / (12 * torch.finfo(dtype).eps * float(exact)))
    if samples == 4000:  # as a floor that does not count samples would have it
        assert beyond > 1
