from __future__ import annotations

import pytest

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope.measures import gradient_norm


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_it_is_the_length_of_the_dense_gradient(problem) -> None:
    obj = problem.objective()
    e = gradient_norm(obj)
    assert e.value == pytest.approx(float(dense(obj)[1].norm()), rel=1e-9)
    assert (e.cost["losses"], e.cost["gradients"], e.cost["products"]) == (0, 1, 0)
    assert e.interval() == (e.value, e.value)
