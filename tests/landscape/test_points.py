from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from problems import PROBLEMS, data, settle
from sharpscope import Objective
from sharpscope.landscape.points import Points


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.mode == "eval"], ids=lambda p: p.name)
def test_a_point_has_the_objectives_loss_there(problem) -> None:
    obj = problem.objective()
    theta = obj.flat() + 0.1 * torch.randn(obj.size, generator=torch.Generator().manual_seed(0)).double()
    loss, accuracy = Points(obj, recompute=False).evaluate(theta)
    assert loss == pytest.approx(obj.loss(theta), rel=1e-10)
    if problem.batch_loss or problem.name in ("regression mse", "shared module"):
        assert accuracy is None


def test_accuracy_is_the_share_of_right_classes_over_uneven_batches() -> None:
    obj = next(p for p in PROBLEMS if p.name == "mlp relu").objective()
    x, y = obj.evaluator.tensors()
    right = float((obj.model(x).argmax(1) == y).double().mean())
    assert Points(obj, recompute=False).evaluate(obj.flat())[1] == pytest.approx(right)


def test_statistics_are_averaged_over_batches_of_about_a_thousand() -> None:
    x, y = data(1700, 4)
    torch.manual_seed(0)
    model = settle(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double(), x[:50])
    points = Points(Objective(model.eval(), F.cross_entropy, (x, y)), recompute=True)
    before = copy.deepcopy(model.state_dict())
    points.evaluate(points.obj.flat())
    with torch.no_grad():
        halves = [model[0](half) for half in x.split(850)]
    mean = torch.stack([h.mean(0) for h in halves]).mean(0)
    torch.testing.assert_close(points.model[1].running_mean, mean)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
