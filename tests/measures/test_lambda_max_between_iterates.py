from __future__ import annotations

import pytest
import torch

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures.lambda_max_between_iterates import lambda_max_between_iterates
from sharpscope.seeding import generator


@pytest.mark.parametrize("name", ["mlp tanh", "batch norm train"])
def test_it_is_the_largest_dense_eigenvalue_on_the_way_of_one_step(name: str) -> None:
    obj = next(p for p in PROBLEMS if p.name == name).objective()
    order = torch.randperm(19, generator=generator("next step", 4))
    step = -0.8 * obj.subset(order[:7]).gradient()
    theta, found = obj.flat(), []
    for alpha in (0.0, 0.5, 1.0):
        with torch.no_grad():
            for parameter, value in zip(
                (dict(obj.model.named_parameters())[n] for n in obj.layout.names),
                obj.layout.split(theta + alpha * step).values(),
                strict=True,
            ):
                parameter.copy_(value)
        found.append(float(torch.linalg.eigvalsh(dense(obj)[2])[-1]))
    there = obj.at(theta)
    e = lambda_max_between_iterates(there, step_size=0.8, batch_size=7, points=3, seed=4)
    assert e.value == pytest.approx(max(found), rel=2e-3)
    assert e.protocol["position"] == (0.0, 0.5, 1.0)[found.index(max(found))]
    assert len({round(value, 6) for value in found}) == 3
    assert e.cost["gradients"] == pytest.approx(7 / 19)
    assert e.cost["products"] > 0


def test_the_step_is_declared() -> None:
    obj = PROBLEMS[2].objective()
    values = {
        lambda_max_between_iterates(obj, step_size=rate, batch_size=size, points=2, seed=seed).value
        for rate, size, seed in ((3.0, 4, 0), (3.0, 4, 1), (6.0, 4, 0), (3.0, None, 0))
    }
    assert len(values) == 4


@pytest.mark.parametrize("arguments", [{"step_size": 0.0}, {"batch_size": 0}, {"points": 1}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        lambda_max_between_iterates(PROBLEMS[0].objective(), **arguments)
