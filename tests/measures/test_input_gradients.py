from __future__ import annotations

import pytest
import torch

from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures import geometric_complexity, input_jacobian

KINDS = [
    p for p in PROBLEMS if p.mode == "eval" and not p.batch_loss and p.name != "batch norm without statistics"
]


@pytest.mark.parametrize("problem", KINDS, ids=lambda p: p.name)
def test_they_are_norms_of_the_dense_jacobian(problem) -> None:
    obj = problem.objective()
    model = obj.with_copy(torch.float64).model.eval()
    x, _ = obj.evaluator.tensors()
    logits, probabilities = [], []
    for row in x:
        f = torch.autograd.functional.jacobian(lambda r: model(r[None])[0], row)
        p = torch.autograd.functional.jacobian(lambda r: model(r[None])[0].softmax(-1), row)
        logits.append(float(f.square().sum()))
        probabilities.append(float(p.norm()))
    assert geometric_complexity(obj).value == pytest.approx(sum(logits) / len(x), rel=1e-8, abs=1e-12)
    assert input_jacobian(obj).value == pytest.approx(sum(probabilities) / len(x), rel=1e-8, abs=1e-12)


def test_it_is_of_the_point_measured_at_and_costs_a_gradient_for_each_output() -> None:
    obj = next(p for p in PROBLEMS if p.name == "linear softmax").objective()
    there = obj.at(2 * obj.flat())
    e = geometric_complexity(there)
    assert e.value == pytest.approx(4 * float(obj.model[0].weight.square().sum()))
    assert e.cost["gradients"] == 3


def test_what_is_refused() -> None:
    for problem in PROBLEMS:
        if problem.batch_loss or problem.mode == "train":
            with pytest.raises(InputError):
                geometric_complexity(problem.objective())
