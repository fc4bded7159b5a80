from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from oracles.dense import dense
from problems import PROBLEMS, Problem
from sharpscope import InputError, NotConvergedWarning, Objective, top_eigenvalues
from sharpscope.curvature.davidson.secant_update import observed
from sharpscope.curvature.lanczos import lanczos

each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)


@each_problem
@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_extreme_eigenvalues_agree_with_the_dense_spectrum(problem: Problem, which: str) -> None:
    obj = problem.objective()
    spectrum = np.linalg.eigvalsh(dense(obj)[2].numpy())
    key = {"largest": -spectrum, "smallest": spectrum, "magnitude": -np.abs(spectrum)}[which]
    exact = spectrum[np.argsort(key, kind="stable")]
    k = min(3, obj.size)
    e = top_eigenvalues(obj, k, which, tol=1e-8)  # type: ignore[arg-type]
    scale = np.abs(spectrum).max()
    np.testing.assert_allclose(np.sort(e.values), np.sort(exact[:k]), rtol=1e-7, atol=1e-9 * scale)
    assert e.converged.all()
    assert (np.abs(np.sort(e.values) - np.sort(exact[:k])) <= e.error_estimates.max() + 1e-12 * scale).all()
    # for "magnitude" the two ends are found apart, orthogonal to the accuracy of the vectors
    precision = 1e-10 if which != "magnitude" else 1e-3
    torch.testing.assert_close(
        e.vectors @ e.vectors.T, torch.eye(k, dtype=torch.float64), atol=precision, rtol=0
    )
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


def _regression(n: int, samples: int, heavy: float, rng: np.random.Generator) -> tuple[Objective, np.ndarray]:
    """Weighted least squares on heavy-tailed features: a Hessian that a subset sees only with noise."""
    scales = rng.gamma(0.5, 1.0, n) + 1e-3
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    x = (rng.standard_t(heavy, size=(samples, n)) * np.sqrt(scales)) @ q.T
    sign = rng.choice([-0.3, 1.0, 1.0], size=(samples, 1))  # negative curvature too
    hessian = (x * sign).T @ x / samples
    model = nn.Linear(n, 1, bias=False).double()
    batch = torch.as_tensor(x), torch.as_tensor(sign)
    obj = Objective(model, lambda o, t: (0.5 * t * o.square()).mean(), batch)
    return obj, np.linalg.eigvalsh(hessian)[::-1]


def test_error_estimates_bound_the_error_on_200_random_problems() -> None:
    rng = np.random.default_rng(0)
    inside = flagged = 0
    for trial in range(200):
        if trial % 2:
            spectrum = np.sort(rng.gamma(0.3, 1.0, 60))[::-1] * 10 ** rng.uniform(-2, 2)
            obj = _with_spectrum(spectrum.tolist(), trial)
        else:
            obj, spectrum = _regression(int(rng.integers(20, 80)), int(rng.integers(600, 2000)), 6.0, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            e = top_eigenvalues(obj, 1, tol=10 ** rng.uniform(-6, -2.5), seed=trial)
        if e.converged[0]:
            flagged += 1
            inside += abs(e.value - spectrum[0]) <= e.error_estimates[0]
    assert flagged >= 195
    assert inside >= 0.99 * flagged


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("drawn", ["by influence", "uniform", "by misleading influence"])
def test_where_few_samples_make_the_curvature_errors_hold_however_subsets_are_drawn(
    k: int, drawn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(k)
    if drawn == "uniform":
        monkeypatch.setattr("sharpscope.curvature.eigenvalues.importance_scores", lambda obj: None)
    elif drawn == "by misleading influence":
        monkeypatch.setattr(
            "sharpscope.curvature.eigenvalues.importance_scores",
            lambda obj: torch.as_tensor(rng.pareto(1.0, int(obj.n_samples))),
        )
    inside = flagged = products = unguided = 0
    for trial in range(40):
        obj, spectrum = _regression(int(rng.integers(30, 90)), int(rng.integers(1200, 4000)), 1.6, rng)
        e = top_eigenvalues(obj, k, tol=10 ** rng.uniform(-4, -2.5), seed=trial)
        unguided += "lanczos" in str(e.protocol["algorithm"])
        flagged += int(e.converged.sum())
        inside += int(((np.abs(e.values - spectrum[:k]) <= e.error_estimates) & e.converged).sum())
        products += e.products
    assert flagged >= 39 * k
    assert inside >= (0.97 if "misleading" in drawn else 0.99) * flagged
    if drawn == "by influence":
        assert unguided == 0
        assert products < 40 * 2 * k
    else:  # subsets that are no likeness are not believed; guided by them it took over twenty on a network
        assert unguided >= 30
        assert products < 40 * (10 + 6 * (k - 1))


def test_eight_clustered_eigenvalues_return_no_copies() -> None:
    spectrum = [5.0, 5.0 - 1e-6, 4.999, 4.99, 4.98, 4.9, 4.9, 4.85, *np.linspace(-1, 1, 150)]
    obj = _with_spectrum([v + 1 for v in spectrum])
    e = top_eigenvalues(obj, 8, tol=1e-7, max_products=2000)
    np.testing.assert_allclose(e.values, [v + 1 for v in spectrum[:8]], rtol=1e-7)
    assert e.converged.all()
    torch.testing.assert_close(e.vectors @ e.vectors.T, torch.eye(8, dtype=torch.float64), atol=1e-10, rtol=0)


def test_a_subset_saves_full_products() -> None:
    obj, spectrum = _regression(60, 8000, 30.0, np.random.default_rng(5))
    e = top_eigenvalues(obj)
    assert e.value == pytest.approx(spectrum[0], rel=1e-3)
    assert e.products <= 5
    again = top_eigenvalues(obj, start=e.vectors)
    assert again.products < e.products
    assert top_eigenvalues(obj, start=again).products == 1


def test_within_a_small_budget_corrections_are_solved_on_less() -> None:
    obj, spectrum = _regression(60, 12000, 30.0, np.random.default_rng(5))
    roomy, tight = (top_eigenvalues(obj, memory=memory) for memory in ("1GiB", 10_000))
    assert "solve_share" not in roomy.protocol
    assert tight.protocol["solve_share"] == 0.04
    assert top_eigenvalues(obj).value == roomy.value  # nor does what is free now decide it
    for found in (roomy, tight):
        assert found.value == pytest.approx(spectrum[0], rel=1e-3)
        assert found.converged.all()


def _drifting(
    trial: int, rng: np.random.Generator, two_signs: bool = False
) -> list[tuple[Objective, np.ndarray]]:
    """Four checkpoints of one weighted least-squares problem, each with its spectrum."""
    n, samples, drift = (
        int(rng.integers(40, 100)),
        int(rng.integers(3000, 9000)),
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


def test_an_earlier_result_saves_products_along_a_drift_and_its_errors_hold() -> None:
    rng = np.random.default_rng(7)
    inside = flagged = products = alone = 0
    for trial in range(24):
        tol, start = 10 ** rng.uniform(-4, -2.5), None
        for number, (obj, spectrum) in enumerate(_drifting(trial, rng)):
            e = top_eigenvalues(obj, 1, tol=tol, seed=trial, start=start)
            flagged += bool(e.converged[0])
            inside += bool(e.converged[0]) and abs(e.value - spectrum[0]) <= e.error_estimates[0]
            if number > 1:  # the first search was not told to observe
                products += e.products
                alone += top_eigenvalues(obj, 1, tol=tol, seed=trial).products
            start = e
    assert flagged >= 94
    assert inside >= 0.99 * flagged
    assert products < 0.75 * alone


def test_both_ends_are_followed_apart() -> None:
    start = None
    for obj, spectrum in _drifting(0, np.random.default_rng(3), two_signs=True):
        start = top_eigenvalues(obj, 1, "both", start=start)
        np.testing.assert_allclose(start.values, spectrum[[0, -1]], rtol=1e-3)
    assert set(start.secant_updates) == {1.0, -1.0}


def test_a_secant_update_is_symmetric_and_exact_where_it_was_seen() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(30, 30, generator=g, dtype=torch.float64)
    a = a + a.T
    first, second = (
        torch.linalg.qr(torch.randn(30, 2, generator=g, dtype=torch.float64))[0].T for _ in range(2)
    )
    one = observed(first, first @ a, None, 4)
    both = observed(second, second @ a, one, 4)
    for update, rows in ((one, first), (both, second), (both, first)):
        torch.testing.assert_close(update(rows), rows @ a)
    dense_e = both(torch.eye(30, dtype=torch.float64))
    torch.testing.assert_close(dense_e, dense_e.T)
    torch.testing.assert_close(both(first[0]), first[0] @ a)
    assert torch.linalg.matrix_rank(dense_e) <= 8
    torch.testing.assert_close(both.basis @ both.basis.T, torch.eye(4, dtype=torch.float64))
    assert len(observed(second, second @ a, one, 3).basis) == 3
    assert len(observed(first, first @ a, one, 4).basis) == 2  # nothing new in the older ones


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


def test_lanczos_basis_is_orthonormal_over_many_steps() -> None:
    matrix = torch.diag(torch.logspace(0, -8, 150, dtype=torch.float64))
    krylov = lanczos(
        lambda v: matrix @ v, torch.ones(150, dtype=torch.float64), 150, lambda: torch.randn(150).double()
    )
    torch.testing.assert_close(
        krylov.basis @ krylov.basis.T, torch.eye(150, dtype=torch.float64), atol=1e-12, rtol=0
    )


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
    for seed in range(5):  # three parameters: the second look has one direction left, or none
        torch.manual_seed(seed)
        obj = Objective(
            nn.Linear(3, 1, bias=False), lambda o, t: 0.5 * (o - t).square().mean(), (x, x[:, :1])
        )
        truth = float(torch.linalg.eigvalsh(x.double().T @ x.double() / 4000)[-1])
        assert top_eigenvalues(obj, seed=seed).value == pytest.approx(truth, rel=1e-4)
