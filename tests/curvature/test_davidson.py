"""The search with a model: corrections and predictions by it, and a probe of all the data that it preconditions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sharpscope import Objective, top_eigenvalues
from sharpscope.curvature import davidson
from sharpscope.curvature.davidson import ModelSearch
from sharpscope.curvature.spectral_model import SpectralModel
from sharpscope.curvature.wanted import Which


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
        int(rng.integers(60, 100)),
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


def test_a_part_of_the_data_saves_products_of_all_of_it() -> None:
    obj, spectrum = regression(60, 12000, 30.0, np.random.default_rng(5))
    sure, fast = top_eigenvalues(obj), _fast(obj)
    for found in (sure, fast):
        assert abs(found.value - spectrum[0]) <= found.error_estimates[0] <= 1e-3 * spectrum[0]
        assert "davidson" in str(found.protocol["algorithm"])
        assert found.protocol["subsets"] == "by importance"
        assert found.products != round(found.products)  # a part's products count by its share
    assert sure.confidence == pytest.approx(0.99)
    assert np.isnan(fast.confidence)
    assert fast.products < 0.6 * sure.products
    assert fast.cost < sure.cost


def test_small_data_takes_no_subset_and_says_how_sure_that_leaves_one() -> None:
    obj, spectrum = regression(60, 1000, 30.0, np.random.default_rng(5))
    sure, fast = top_eigenvalues(obj), _fast(obj)
    assert "stopped by residuals" in str(fast.protocol["algorithm"])
    assert fast.products < sure.products
    assert fast.confidence < sure.confidence
    assert fast.value == pytest.approx(spectrum[0], rel=1e-3)


def test_some_data_is_enough_for_a_fast_search_to_take_a_subset_and_not_for_a_certified_one() -> None:
    obj, spectrum = regression(60, 2000, 3.0, np.random.default_rng(5))  # of which 500 samples are the part
    sure, fast = top_eigenvalues(obj), _fast(obj)
    assert sure.protocol["algorithm"] == "lanczos"
    assert "part of the data" in str(fast.protocol["algorithm"])
    assert fast.products < 0.6 * sure.products
    for found in (sure, fast):
        assert abs(found.value - spectrum[0]) <= found.error_estimates[0] <= 1e-3 * spectrum[0]


@pytest.mark.parametrize("which", ["smallest", "both", "magnitude"])
def test_a_subset_serves_the_largest_eigenvalues_alone(which: Which) -> None:
    """By the model of a part, converged values of a perceptron's other end were off by up to 2 %."""
    torch.manual_seed(0)
    x = torch.randn(1500, 10, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batch = x, (x[:, 0] > 0).long()
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
    obj = Objective(model, nn.functional.cross_entropy, batch)
    spectrum = np.linalg.eigvalsh(obj.hvp(torch.eye(obj.size, dtype=torch.float64)).numpy())
    found = _fast(obj, 2, which)
    assert "stopped by residuals" in str(found.protocol["algorithm"])
    ends = {"smallest": spectrum[:2], "both": spectrum[[-1, -2, 0, 1]]}
    truth = ends.get(which, spectrum[np.argsort(-np.abs(spectrum))[:2]])
    assert (np.abs(found.values - truth) <= found.error_estimates).all()
    again = _fast(obj, 2, which, start=found, seed=1)
    assert (np.abs(again.values - truth) <= again.error_estimates).all()
    assert again.products <= found.products


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("drawn", ["by importance", "uniform"])
def test_where_few_samples_make_the_curvature(k: int, drawn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(k)
    if drawn == "uniform":
        monkeypatch.setattr("sharpscope.curvature.search_run.importance_scores", lambda *_: None)
    inside = flagged = unlike = 0
    for trial in range(24):
        obj, spectrum = regression(int(rng.integers(70, 110)), int(rng.integers(4000, 8000)), 1.6, rng)
        e = _fast(obj, k, tol=10 ** rng.uniform(-4, -2.5), seed=trial)
        unlike += "lanczos" in str(e.protocol["algorithm"])
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
            if number:
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
    assert set(start.models) == {1.0, -1.0}
    assert "earlier" in str(start.protocol["algorithm"])


@pytest.mark.parametrize("samples", [500, 6000])
def test_a_certified_search_that_follows_takes_fewer_products_and_is_as_sure(samples: int) -> None:
    obj, _ = regression(60, samples, 30.0, np.random.default_rng(5))
    alone = top_eigenvalues(obj)
    followed = top_eigenvalues(obj, start=alone, seed=1)
    assert "earlier" in str(followed.protocol["algorithm"])
    assert followed.products <= 0.75 * alone.products
    assert followed.confidence == pytest.approx(0.99)
    assert abs(followed.value - alone.value) <= alone.error_estimates[0] + followed.error_estimates[0]


def _matrix(values: np.ndarray, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(len(values), len(values), generator=g, dtype=torch.float64))[0]
    return q * torch.as_tensor(values) @ q.T


def _model(matrix: torch.Tensor, without: int = 0, count: int = 20) -> SpectralModel:
    """Return the leading eigenpairs of a matrix, the first few left out."""
    values, vectors = torch.linalg.eigh(matrix)
    order = values.argsort(descending=True)[without : without + count]
    return SpectralModel(vectors.T[order], values[order].numpy())


def _searched(
    matrix: torch.Tensor, model: SpectralModel, level: float | None = 0.005, k: int = 1
) -> ModelSearch:
    draws = torch.Generator().manual_seed(5)

    def fresh() -> torch.Tensor:
        return torch.randn(len(matrix), generator=draws, dtype=torch.float64)

    search = ModelSearch(lambda v: v @ matrix, model, k, 1e-3, fresh, level)
    while search.outcome == "running":
        search.step()
    return search


SPECTRUM = np.concatenate([[10.0, 9.9, 6.0, 5.0, 4.0], np.random.default_rng(0).uniform(-0.5, 1.0, 395)])


def test_a_model_that_is_like_the_matrix_makes_the_certificate_cheap() -> None:
    matrix = _matrix(SPECTRUM)
    noise = torch.randn(400, 400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    like = _searched(matrix, _model(matrix + 0.005 * (noise + noise.T)))
    assert like.outcome == "finished"
    assert like.values[0] == pytest.approx(10.0, rel=1e-3)
    assert like.runs == 1
    assert like.products <= 9


@pytest.mark.parametrize("k", [1, 2])
def test_the_probe_finds_what_the_model_does_not_show(k: int) -> None:
    matrix = _matrix(SPECTRUM)
    unaware = _model(matrix, without=1)  # its leading vector is an eigenvector, with a residual of zero
    assert _searched(matrix, unaware, level=None, k=k).values[0] == pytest.approx(
        9.9 if k == 1 else 10, rel=1e-2
    )
    found = _searched(matrix, unaware, k=k)
    assert found.outcome in ("finished", "gave up")
    if found.outcome == "finished":
        assert abs(found.values[0] - 10.0) <= found.errors[0]
        assert found.runs > 1


def test_bounds_hold_for_models_of_any_quality() -> None:
    rng = np.random.default_rng(3)
    finished = 0
    for trial in range(40):
        values = np.concatenate([5 * rng.random(3) + 5, rng.uniform(-2, 4, 57)])
        matrix = _matrix(values, trial)
        noise = torch.as_tensor(rng.normal(size=(60, 60))) * rng.choice([0.01, 0.1, 0.3])
        k = 1 + trial % 3
        found = _searched(matrix, _model(matrix + noise + noise.T, count=12), level=0.01, k=k)
        if found.outcome == "finished":
            finished += 1
            assert (np.abs(found.values - np.sort(values)[::-1][:k]) <= found.errors).all()
    assert finished >= 10


def test_what_the_model_says_is_missing_is_what_is_missing_where_it_is_right() -> None:
    matrix = _matrix(np.linspace(0.0, 1.0, 40))
    basis = torch.linalg.qr(torch.randn(40, 3, generator=torch.Generator().manual_seed(1)).double())[0].T
    residual = torch.randn(40, generator=torch.Generator().manual_seed(2)).double()
    residual -= basis.T @ (basis @ residual)
    off = torch.eye(40, dtype=torch.float64) - basis.T @ basis
    solved = torch.linalg.solve(1.05 * torch.eye(40, dtype=torch.float64) - off @ matrix @ off, residual)
    t, missing = _model(matrix, count=40).deflated(basis).solve(1.05, residual)
    torch.testing.assert_close(t, solved)
    assert missing == pytest.approx(float(residual @ solved))
    partial = _model(matrix, count=10).deflated(basis)
    # what is curved and not in the model counts as flat
    assert 0 < partial.solve(1.05, residual)[1] < missing


def test_a_model_with_a_value_above_the_ritz_value_predicts_no_end() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    model = SpectralModel(axes[:2], np.array([3.0, 1.0]))
    assert model.solve(2.0, axes[0] + axes[3])[1] == np.inf
    assert model.top_off(np.array([[0.0], [1.0]])) == pytest.approx(3.0)


@pytest.mark.parametrize("f", [0.3, 0.9, 1.0, 1.7])
def test_a_bound_of_the_preconditioned_matrix_bounds_the_rest(f: float) -> None:
    rng = np.random.default_rng(int(10 * f))
    model = SpectralModel(torch.eye(30, dtype=torch.float64)[:6], np.array([4.0, 3.0, 2.0, 1.0, -1.0, -3.0]))
    mu = 5.0
    model = model.clipped(mu)
    root = torch.stack([model.root(mu, row) for row in torch.eye(30, dtype=torch.float64)])
    b = torch.stack([model(row) for row in torch.eye(30, dtype=torch.float64)])
    torch.testing.assert_close(root @ (torch.eye(30) - b / mu) @ root, torch.eye(30, dtype=torch.float64))
    noise = torch.as_tensor(rng.normal(size=(30, 30)))
    noise = noise + noise.T
    largest = float(torch.linalg.eigvalsh(root @ noise @ root / mu)[-1])
    rest = b + noise * (f / largest)  # so that F's largest eigenvalue is f
    assert float(torch.linalg.eigvalsh(rest)[-1]) <= model.limit(f, mu) + 1e-12


def test_a_model_survives_low_precision() -> None:
    q = torch.linalg.qr(torch.randn(300, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[
        0
    ].T
    model = SpectralModel(q.bfloat16(), np.arange(8.0)).restored(torch.float64, torch.device("cpu"))
    torch.testing.assert_close(
        model.vectors @ model.vectors.T, torch.eye(8, dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert float((model.vectors - q).abs().max()) < 2e-3


def test_a_search_that_gives_up_is_finished_by_lanczos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(davidson, "MOST_PRODUCTS", 1)
    monkeypatch.setattr(davidson, "MOST_EACH", 1)
    obj, spectrum = regression(60, 6000, 30.0, np.random.default_rng(5))
    found = top_eigenvalues(obj)
    assert found.protocol["algorithm"] == "lanczos"
    assert found.confidence == pytest.approx(0.99)
    assert abs(found.value - spectrum[0]) <= found.error_estimates[0]
