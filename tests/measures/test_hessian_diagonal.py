from __future__ import annotations

import pytest
import torch

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures import REGISTRY, adaptive_trace, hessian_diagonal

QUADRATIC, TANH, ZEROS = (
    next(p for p in PROBLEMS if p.name == name)
    for name in ("quadratic, multiple eigenvalues", "mlp tanh", "zero weights")
)


@pytest.mark.parametrize("scaled", [False, True])
def test_entries_lie_within_their_errors(scaled: bool) -> None:
    obj = TANH.objective()
    exact = dense(obj)[2].diagonal()
    scale = obj.flat().abs() if scaled else None
    found = hessian_diagonal(obj, 800, scale=scale)
    assert found.probes == 800
    deviations = (found.values - exact) / found.stderr
    assert float(deviations.abs().max()) < 12  # Student's t of 7 degrees of freedom, 51 entries
    assert float(deviations.abs().median()) < 1.5
    assert found.cost["products"] == 800
    layers = found.by_layer()
    for row in layers.itertuples():
        part = obj.layout.split(exact)[row.parameter]
        assert row.entries == part.numel()
        assert abs(row.mean - float(part.mean())) < 6 * row.stderr


def test_on_a_diagonal_hessian_one_probe_is_exact() -> None:
    obj = QUADRATIC.objective()
    exact = dense(obj)[2].diagonal()
    torch.testing.assert_close(hessian_diagonal(obj, 8).values, exact, rtol=1e-10, atol=1e-12)
    e = REGISTRY["hessian_diagonal"].function(obj, 8)
    assert e.value == pytest.approx(float(exact.norm()), rel=1e-10)
    assert e.stderr == pytest.approx(0, abs=1e-7)
    with pytest.raises(InputError, match="8 groups"):
        hessian_diagonal(obj, 7)


def test_the_norm_is_unbiased_where_the_entries_are_noisy() -> None:
    """The plain norm of the estimated diagonal is far too large with few probes."""
    obj = TANH.objective()
    exact = float(dense(obj)[2].diagonal().norm())
    found = [REGISTRY["hessian_diagonal"].function(obj, 16, seed=s) for s in range(60)]
    squares = torch.tensor([e.value**2 for e in found]).double()
    assert abs(float(squares.mean()) - exact**2) < 4.5 * float(squares.std()) / 60**0.5
    plain = [float(hessian_diagonal(obj, 16, seed=s).values.norm()) for s in range(10)]
    assert min(plain) > 1.1 * exact
    spread, said = float(squares.std()), [2 * e.value * e.stderr for e in found]
    assert 0.6 * spread < sum(said) / 60 < 1.7 * spread


@pytest.mark.parametrize("problem", [TANH, ZEROS], ids=lambda p: p.name)
def test_the_adaptive_trace_weighs_by_squared_weights(problem) -> None:
    obj = problem.objective()
    exact = float((obj.flat() ** 2 * dense(obj)[2].diagonal()).sum())
    e = adaptive_trace(obj, samples=600)
    assert abs(e.value - exact) < 4.5 * e.stderr
    assert e.stderr < 0.5 * abs(exact)
