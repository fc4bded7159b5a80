from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError, between_iterates

BATCH_NORM = next(p for p in PROBLEMS if p.name == "batch norm train")


def test_every_point_agrees_with_the_dense_hessian_there() -> None:
    obj = BATCH_NORM.objective()
    after = obj.flat() - 0.5 * obj.gradient()
    e = between_iterates(obj, after, points=5, tol=1e-6)
    weights = copy.deepcopy(obj.model.state_dict())
    for alpha, value in zip(e.positions, e.values, strict=True):
        twin = BATCH_NORM.objective()
        with torch.no_grad():
            for name, part in twin.layout.split((1 - alpha) * obj.flat() + alpha * after).items():
                dict(twin.model.named_parameters())[name].copy_(part)
        assert value == pytest.approx(np.linalg.eigvalsh(dense(twin)[2].numpy())[-1], rel=1e-5)
    assert e.value == e.values.max()
    assert e.converged.all()
    for name, tensor in obj.model.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_a_moved_objective_is_the_objective_there() -> None:
    obj = PROBLEMS[2].objective()
    there = obj.at(obj.flat() + 0.1)
    assert there.loss() == obj.loss(obj.flat() + 0.1) != obj.loss()
    torch.testing.assert_close(there.gradient(), obj.gradient(obj.flat() + 0.1))
    assert there.fingerprint != obj.fingerprint
    assert torch.equal(there.flat(), obj.flat() + 0.1)


def test_bad_arguments() -> None:
    obj = PROBLEMS[2].objective()
    with pytest.raises(InputError, match="points"):
        between_iterates(obj, obj.flat(), points=1)
    with pytest.raises(InputError, match="shape"):
        between_iterates(obj, torch.ones(3))
