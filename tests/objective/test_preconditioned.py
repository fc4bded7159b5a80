from __future__ import annotations

import pytest
import torch

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError, frobenius_norm, spectral_density, top_eigenvalues, trace
from sharpscope.objective import preconditioned


def diagonal(size: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    return 10 ** (2 * torch.rand(size, generator=g, dtype=torch.float64) - 1)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_it_is_the_same_function_in_scaled_coordinates(problem) -> None:
    obj = problem.objective()
    p = diagonal(obj.size)
    loss, gradient, hessian = dense(obj)
    view = preconditioned(obj, p)
    u = view.flat()
    torch.testing.assert_close(u, obj.flat() * p.sqrt(), rtol=1e-12, atol=1e-14)
    assert (view.loss(), view.loss(u)) == pytest.approx((loss, loss), rel=1e-10)
    torch.testing.assert_close(view.gradient(), gradient / p.sqrt(), rtol=1e-8, atol=1e-11)
    exact = hessian / p.sqrt()[:, None] / p.sqrt()
    block = torch.randn(3, obj.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(view.hvp(block), block @ exact, rtol=1e-7, atol=1e-9)
    step = u + 0.1 * block[0]
    there = obj.loss(step / p.sqrt())
    assert (view.loss(step), view.at(step).loss()) == pytest.approx((there, there), rel=1e-12)
    torch.testing.assert_close(view.at(step).flat(), step, rtol=1e-12, atol=1e-14)
    assert view.fingerprint == obj.fingerprint


def test_every_curvature_measure_is_of_the_preconditioned_hessian() -> None:
    obj = next(p for p in PROBLEMS if p.name == "mlp tanh").objective()
    p = diagonal(obj.size)
    exact = dense(obj)[2] / p.sqrt()[:, None] / p.sqrt()
    view = preconditioned(obj, p)
    values = torch.linalg.eigvalsh(exact)
    before = obj.cost.products
    e = top_eigenvalues(view, 2, tol=1e-6)
    assert e.values == pytest.approx(values.flip(0)[:2].tolist(), rel=1e-5)
    assert obj.cost.products > before  # the two count together
    t = trace(view, samples=200)
    assert abs(t.value - float(values.sum())) < 4.5 * t.stderr
    f = frobenius_norm(view, samples=200)
    assert abs(f.value - float(values.norm())) < 4.5 * f.stderr
    mean, error = spectral_density(view, probes=40, steps=10).moment(1)
    assert abs(mean - float(values.mean())) < 4.5 * error


def test_parts_of_the_data_and_copies_keep_the_preconditioner() -> None:
    obj = next(p for p in PROBLEMS if p.name == "mlp relu").objective()
    p = diagonal(obj.size)
    view, index, v = preconditioned(obj, p), torch.tensor([0, 3, 4]), torch.ones(obj.size).double()
    part = preconditioned(obj.subset(index), p)
    torch.testing.assert_close(view.subset(index).hvp(v), part.hvp(v))
    single = view.with_copy(torch.float32)
    torch.testing.assert_close(single.hvp(v).double(), view.hvp(v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_not_positive_is_refused(bad: float) -> None:
    obj = PROBLEMS[0].objective()
    p = diagonal(obj.size)
    p[2] = bad
    with pytest.raises(InputError, match="positive and finite"):
        preconditioned(obj, p)
    with pytest.raises(InputError, match="one entry for each"):
        preconditioned(obj, p[:-1])
    with pytest.raises(InputError, match="belongs to its parameters"):
        preconditioned(obj, p.nan_to_num(1.0, 1.0).abs() + 1).with_params("*")
