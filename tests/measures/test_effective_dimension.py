from __future__ import annotations

import pytest
import torch

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures import effective_dimension

TANH, QUADRATIC, NEGATIVE = (
    next(p for p in PROBLEMS if p.name == name)
    for name in ("mlp tanh", "quadratic, multiple eigenvalues", "negative curvature")
)


@pytest.mark.parametrize("problem", [TANH, QUADRATIC, NEGATIVE], ids=lambda p: p.name)
@pytest.mark.parametrize("z", [0.01, 1.0])
def test_it_is_the_sum_over_the_dense_spectrum(problem, z: float) -> None:
    obj = problem.objective()
    values = torch.linalg.eigvalsh(dense(obj)[2]).clamp_min(0)
    exact = float((values / (values + z)).sum())
    e = effective_dimension(obj, z, probes=30, steps=obj.size)
    assert abs(e.value - exact) < 3.2 * e.stderr + 1e-9 * exact
    assert e.samples == 30
    assert e.stderr < 0.3 * exact


@pytest.mark.parametrize("arguments", [{"z": 0.0}, {"probes": 1}, {"steps": 1}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        effective_dimension(TANH.objective(), **arguments)
