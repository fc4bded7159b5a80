from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from oracles.residual import images, residual
from sharpscope import InputError, Objective
from sharpscope.measures.invariance.audit import USUAL, audit
from sharpscope.models.lenet5 import LeNet5
from sharpscope.models.mlp import MLP
from sharpscope.models.options import LeNet5Options, MLPOptions, VGG11Options
from sharpscope.models.vgg11 import VGG11

ADAPTIVE = {"measure": "worst_case", "name": "adaptive", "batch_size": None, "radius": 0.02, "steps": 10}
PLAIN = [
    "lambda_max",
    {"measure": "average_direction", "radius": 0.5, "samples": 40},
    {"measure": "worst_case", "name": "plain", "adaptive": False, "batch_size": None, "radius": 0.02},
]


def test_the_adaptive_measure_stands_still_and_the_others_move() -> None:
    model = residual()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    obj = Objective(model, nn.functional.cross_entropy, images())
    found = audit(obj, [ADAPTIVE, *PLAIN], repetitions=2)
    table = found.table.set_index("measure")
    assert table["largest"]["adaptive"] < 1e-8
    assert table["invariant"].tolist() == [True, False, False, False]
    assert table["exact_in_theory"].tolist() == [True, False, False, False]
    assert (table["largest"][1:] > 0.05).all()
    assert found.function_change < 1e-10
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@pytest.mark.filterwarnings("ignore::sharpscope.NotConvergedWarning")
@pytest.mark.parametrize(
    "network",
    [
        lambda: MLP((1, 16, 16), 3, MLPOptions(hidden=(12, 10, 8))),
        lambda: LeNet5((1, 16, 16), 3, LeNet5Options()),
        lambda: VGG11((1, 16, 16), 3, VGG11Options(width=1 / 16)),
        lambda: VGG11((1, 16, 16), 3, VGG11Options(width=1 / 16, batch_norm=True)),
    ],
    ids=["mlp", "lenet5", "vgg11", "vgg11 with batch norm"],
)
def test_the_usual_audit_tells_the_adaptive_measures_from_the_rest(network: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, x, y = network(), torch.randn(24, 1, 16, 16), torch.arange(24) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = audit(Objective(model, nn.functional.cross_entropy, (x[:8], y[:8])), repetitions=1)
    table = found.table.set_index("measure")
    assert found.function_change < 1e-9
    assert len(table) == len(USUAL)
    for label, row in table.iterrows():
        still = str(label).endswith("_adaptive") or label == "geodesic_sharpness"
        assert row["exact_in_theory"] == row["invariant"] == still, label
        assert row["largest"] < 1e-6 if row["invariant"] else row["largest"] > 0.02, label
    assert (table[["losses", "gradients", "products"]].sum(axis=1) > 0).all()


def test_plain_gradient_steps_are_not_invariant_even_in_the_adaptive_ball() -> None:
    obj = Objective(residual(), nn.functional.cross_entropy, images())
    fixed = {**ADAPTIVE, "step_size": 0.002, "steps": 3}
    assert audit(obj, [fixed], repetitions=2).table["largest"][0] > 1e-3


def test_a_rescaling_that_changes_the_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: nn.Module, *_: object) -> nn.Module:
        model = copy.deepcopy(model)
        with torch.no_grad():
            model.head.bias[0] += 1e-6
        return model

    monkeypatch.setattr("sharpscope.measures.invariance.audit.rescale", wrong)
    with pytest.raises(InputError, match="leave the function"):
        audit(Objective(residual(), nn.functional.cross_entropy, images()), [ADAPTIVE])
