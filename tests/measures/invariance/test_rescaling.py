from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oracles.residual import images, residual
from problems import data
from sharpscope import InputError, Objective
from sharpscope.measures.invariance.audit import audit
from sharpscope.measures.invariance.rescaling import find_rescalings, rescale


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
