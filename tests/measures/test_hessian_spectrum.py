from __future__ import annotations

from typing import Any

import pytest
import torch

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope.measures import lambda_max, lambda_min, spectral_norm


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_extreme_eigenvalues_of_the_dense_hessian(problem) -> None:
    obj = problem.objective()
    values = torch.linalg.eigvalsh(dense(obj)[2])
    size = float(values.abs().max())
    expected: dict[Any, float] = {lambda_max: values[-1], lambda_min: values[0], spectral_norm: size}
    for function, exact in expected.items():
        e = function(obj, tol=1e-6)
        assert e.value == pytest.approx(float(exact), abs=2e-6 * size)
        assert e.converged or abs(e.value) <= e.error  # no relative error can be reached of a value of zero
        assert e.measure == function.__name__
        assert e.cost["products"] > 0
        assert e.protocol["residual"] >= 0
