from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from problems import data, settle
from sharpscope import InputError, Objective
from sharpscope.measures.invariance.audit import USUAL, audit
from sharpscope.measures.invariance.rescaling import find_rescalings, rescale
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


class Residual(nn.Module):
    """A stream that two branches write to and a pooled head reads: one factor for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.inner = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(5)
        self.outer = nn.Conv2d(5, 3, 1)
        self.head = nn.Linear(3 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        h = self.outer(torch.relu(self.inner_norm(self.inner(x))))
        x = torch.relu(x + h)
        return self.head(torch.flatten(nn.functional.max_pool2d(x, 2), 1))


def images() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(13, 1, 4, 4, generator=g).double(), torch.randint(0, 3, (13,), generator=g)


def residual() -> nn.Module:
    torch.manual_seed(1)
    model = settle(Residual().double(), images()[0])
    with torch.no_grad():
        model.norm.bias.uniform_(-0.5, 0.5)
        model.inner_norm.weight.uniform_(0.5, 2)
        model.inner_norm.bias.uniform_(-0.5, 0.5)
    return model.eval()


def test_a_rescaled_network_is_the_same_function_with_other_weights() -> None:
    model = residual()
    found = find_rescalings(model)
    assert sorted(map(str, found)) == [
        "inner → inner_norm (5 channels)",
        "inner_norm → outer (5 channels)",
        "norm, outer → inner, head (3 channels)",
        "stem → norm (3 channels)",
    ]
    factors = [torch.rand(group.channels).double() * 3 + 0.2 for group in found]
    other = rescale(model, found, factors)
    x, _ = images()
    torch.testing.assert_close(other(x), model(x), rtol=1e-11, atol=1e-12)
    for name, parameter in model.named_parameters():
        if name != "head.bias":
            assert not torch.allclose(parameter, dict(other.named_parameters())[name]), name
    assert torch.allclose(other.head.bias, model.head.bias)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.layer(torch.relu(self.layer(x)))))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    "model",
    [
        Twice(),
        nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3)),
        nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 3))[:2],
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 3)),
        nn.Linear(4, 3),
    ],
)
def test_what_cannot_be_rescaled_is_left_alone(model: nn.Module) -> None:
    assert find_rescalings(model) == []
    with pytest.raises(InputError, match="nothing to rescale"):
        audit(Objective(model, lambda o, t: o.square().mean(), data(9, 4)))


def test_a_model_that_cannot_be_traced_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"torch\.fx"):
        find_rescalings(Branching())


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
        assert row["exact_in_theory"] == row["invariant"] == str(label).endswith("_adaptive"), label
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
