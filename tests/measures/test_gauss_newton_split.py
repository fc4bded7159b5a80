from __future__ import annotations

import pytest
import torch

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures import gauss_newton_split

TANH, LINEAR, TOKENS = (
    next(p for p in PROBLEMS if p.name == name) for name in ("mlp tanh", "linear softmax", "dict batches")
)


def test_it_is_the_norm_of_the_difference_of_the_two_matrices() -> None:
    obj = TANH.objective()
    evaluator = obj.evaluator
    ggn = evaluator.multiply(evaluator.gauss_newton_graphs(evaluator.leaves()), torch.eye(obj.size).double())
    hessian = dense(obj)[2]
    e = gauss_newton_split(obj, 400)
    assert abs(e.value - float((hessian - ggn).norm())) < 4.5 * e.stderr
    assert e.stderr < 0.1 * e.value
    assert e.protocol["frobenius_norm"] == pytest.approx(float(hessian.norm()), rel=0.15)
    assert e.protocol["frobenius_norm_ggn"] == pytest.approx(float(ggn.norm()), rel=0.15)
    assert e.protocol["lambda_max_ggn"] == pytest.approx(float(torch.linalg.eigvalsh(ggn)[-1]), rel=1e-2)


def test_a_linear_model_has_nothing_beyond_the_gauss_newton_matrix() -> None:
    assert gauss_newton_split(LINEAR.objective(), 4).value < 1e-12


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="samples"):
        gauss_newton_split(TANH.objective(), 1)
    with pytest.raises(InputError, match="from_batch_loss"):
        gauss_newton_split(TOKENS.objective())
