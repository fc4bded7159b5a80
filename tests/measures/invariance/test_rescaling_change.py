from __future__ import annotations

import pytest
import torch
from torch import nn

from problems import PROBLEMS
from sharpscope import InputError, Objective, measure
from sharpscope.measures import rescaling_change
from sharpscope.measures.invariance.audit import audit

MLP = next(p for p in PROBLEMS if p.name == "mlp relu")


def test_the_adaptive_worst_case_stands_still_and_others_move_as_the_audit_says() -> None:
    obj = MLP.objective(dtype=torch.float32)
    adaptive = {"batch_size": 5, "restarts": 3}
    e = rescaling_change(obj, options=adaptive, repetitions=2, seed=1)
    assert 0 <= e.value < 1e-9
    assert e.cost["gradients"] > 0
    moving = rescaling_change(obj, "lambda_max", repetitions=2, seed=1)
    assert moving.value == audit(obj, ["lambda_max"], repetitions=2, seed=1).table["largest"][0] > 0.05
    assert moving.protocol["rescaled_channels"] == 6


def test_the_written_protocols_plain_steps_do_not_follow_a_rescaling() -> None:
    e = rescaling_change(MLP.objective(), "hammoud2023", {"radius": 0.1}, step_size=1e-2)
    assert e.value > 1e-3
    assert e.protocol["options"] == {"radius": 0.1, "step_size": 1e-2}


def test_a_table_row_holds_it() -> None:
    spec = {"measure": "rescaling_change", "name": "H0", "options": {"batch_size": None}}
    row = measure(MLP.objective(), [spec]).iloc[0]
    assert row["measure"] == "H0"
    assert row["value"] < 1e-9


def test_the_moved_point_is_what_is_rescaled() -> None:
    obj = MLP.objective()
    there = obj.at(obj.flat() * 1.5 + 0.1)
    with torch.no_grad():
        for parameter, value in zip(
            obj.model.parameters(), there.layout.split(there.flat()).values(), strict=True
        ):
            parameter.copy_(value)
    moved, here = (rescaling_change(o, "gradient_norm", seed=2) for o in (there, obj))
    assert moved.value == here.value > 1e-3
    assert moved.protocol["of_value"] == here.protocol["of_value"]


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match="another measure"):
        rescaling_change(MLP.objective(), "rescaling_change")
    with pytest.raises(InputError, match="must be one of"):
        rescaling_change(MLP.objective(), "flatness")
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2))
    obj = Objective(model, nn.functional.cross_entropy, (torch.randn(5, 2), torch.arange(5) % 2))
    with pytest.raises(InputError, match="nothing to rescale"):
        rescaling_change(obj)
