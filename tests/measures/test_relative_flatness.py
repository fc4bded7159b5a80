from __future__ import annotations

import pytest
import torch
from torch import nn

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError, Objective
from sharpscope.measures import relative_flatness

RELU, CONV = (next(p for p in PROBLEMS if p.name == name) for name in ("mlp relu", "convolution"))


def brute_force(obj: Objective, name: str) -> float:
    """The definition's double sum over rows, from the dense Hessian."""
    alone = obj.with_params(name)
    hessian = dense(alone)[2]
    weight = alone.flat().view(alone.layout.shapes[0][0], -1)
    rows, columns = weight.shape
    blocks = hessian.view(rows, columns, rows, columns)
    total = 0.0
    for s in range(rows):
        for t in range(rows):
            total += float(weight[s] @ weight[t]) * float(blocks[s, :, t, :].trace())
    return total


@pytest.mark.parametrize(("problem", "layer"), [(RELU, "0.weight"), (RELU, "2.weight"), (CONV, "1.weight")])
def test_it_is_the_double_sum_over_neurons(problem, layer: str) -> None:
    obj = problem.objective()
    e = relative_flatness(obj, layer, samples=1500)
    assert abs(e.value - brute_force(obj, layer)) < 4.5 * e.stderr
    assert e.stderr < 0.1 * abs(e.value)


def test_the_last_layer_under_cross_entropy_has_a_closed_form() -> None:
    obj = RELU.objective()
    x, _ = obj.evaluator.tensors()
    with torch.no_grad():
        features = obj.model[:2](x)
        p = obj.model(x).softmax(1)
        gram = obj.model[2].weight @ obj.model[2].weight.T
        fisher = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        exact = float((features.square().sum(1) * (fisher * gram).sum((1, 2))).mean())
    e = relative_flatness(obj, samples=1500)
    assert e.protocol["layer"] == "2.weight"
    assert abs(e.value - exact) < 4.5 * e.stderr


def test_a_factor_between_layers_changes_nothing() -> None:
    values = []
    for factor in (1.0, 5.0):
        obj = RELU.objective()
        with torch.no_grad():
            obj.model[0].weight *= factor
            obj.model[0].bias *= factor
            obj.model[2].weight /= factor
        values.append([relative_flatness(obj, name, samples=8).value for name in ("0.weight", "2.weight")])
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_it_is_taken_at_the_point_measured_at() -> None:
    obj = RELU.objective()
    there = obj.at(1.3 * obj.flat() + 0.1)
    moved = there.with_copy(torch.float64)
    assert relative_flatness(there, samples=4).value == relative_flatness(moved, samples=4).value


def test_bad_arguments() -> None:
    obj = RELU.objective()
    for arguments in ({"layer": "3.weight"}, {"layer": "0.bias"}, {"samples": 1}):
        with pytest.raises(InputError):
            relative_flatness(obj, **arguments)
    with pytest.raises(InputError, match="weight matrix"):
        relative_flatness(RELU.objective(params="*.bias"))
    assert isinstance(obj.model[0], nn.Linear)
