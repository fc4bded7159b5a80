from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oracles.dense import dense
from sharpscope import Objective
from sharpscope.autograd.convolution import replace_convolutions
from sharpscope.autograd.module_state import SavedState, restoring


class Own(nn.Conv2d):
    """Convolves in a way of its own, which is to be left alone."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        return F.conv2d(x, 2 * weight, bias)


def _network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network of two or three convolutions with a curved end, and the shape of a sample."""
    conv = nn.Conv2d
    layers, shape = {
        "padded": ([conv(2, 3, 3, padding=1), nn.Tanh(), conv(3, 2, 2)], (2, 4, 4)),
        "strided and dilated": ([conv(1, 3, 3, stride=2), nn.Tanh(), conv(3, 2, 2, dilation=2)], (1, 9, 9)),
        "uneven": ([conv(1, 2, (1, 3), (2, 1), (1, 0)), nn.Tanh(), conv(2, 2, (3, 1), padding=(0, 1))], (1, 5, 4)),
        "grouped": ([conv(2, 4, 3, groups=2), nn.Tanh(), conv(4, 4, 2, groups=4, bias=False)], (2, 5, 5)),
        "without biases": ([conv(1, 3, 3, bias=False), nn.Tanh(), conv(3, 2, 2, bias=False)], (1, 4, 4)),
        "one dimension": ([nn.Conv1d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv1d(3, 2, 2)], (2, 5)),
        "three dimensions": ([nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Conv3d(2, 2, 2)], (1, 3, 3, 3)),
        "reflecting": ([conv(1, 2, 3, padding=1, padding_mode="reflect"), nn.Tanh(), conv(2, 2, 2)], (1, 4, 4)),
        "same": ([conv(1, 2, 3, padding="same"), nn.Tanh(), conv(2, 2, 2)], (1, 3, 3)),
        "own": ([Own(1, 2, 3), nn.Tanh(), conv(2, 2, 2)], (1, 5, 5)),
        "last": ([conv(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Unflatten(1, (2, 2, 2)), conv(2, 3, 2)], (1, 4, 4)),
    }[name]  # fmt: skip
    return nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)), shape


NAMES = ["padded", "strided and dilated", "uneven", "grouped", "without biases", "one dimension"]
NAMES += ["three dimensions", "reflecting", "same", "own", "last"]


def _objective(name: str, **options: Any) -> Objective:
    torch.manual_seed(0)
    model, shape = _network(name)
    x = torch.randn(7, *shape, dtype=torch.float64)
    model = model.double()
    model(x)
    return Objective(model, F.cross_entropy, (x, torch.arange(7) % 3), **options)


@pytest.mark.parametrize("name", NAMES)
def test_products_agree_with_the_dense_hessian(name: str) -> None:
    obj = _objective(name)
    _, _, hessian = dense(obj)
    block = torch.randn(2, obj.size, dtype=torch.float64)
    torch.testing.assert_close(obj.hvp(block), block @ hessian, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chosen", ["0.weight", "2.weight", "*.bias", "2.*"])
def test_products_where_some_layers_are_not_measured(chosen: str) -> None:
    obj = _objective("padded", params=[chosen])
    _, _, hessian = dense(obj)
    v = torch.randn(obj.size, dtype=torch.float64)
    torch.testing.assert_close(obj.hvp(v), hessian @ v, rtol=1e-9, atol=1e-12)


def test_only_plain_convolutions_are_changed_and_all_are_as_before_afterwards() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), Own(2, 2, 1), nn.Conv2d(2, 2, 2, padding="same"), nn.Linear(3, 3)
    )
    before = [dict(vars(layer)) for layer in model]
    inside = []

    def another(saved: SavedState) -> None:
        replace_convolutions(model)

    def replaced(saved: SavedState) -> None:
        replace_convolutions(model)
        inside.extend("_conv_forward" in vars(layer) for layer in model)
        restoring(model, torch.device("cpu"), another)  # another objective of the same model
        inside.append("_conv_forward" in vars(model[0]))
        raise KeyError

    with contextlib.suppress(KeyError):
        restoring(model, torch.device("cpu"), replaced)
    assert inside == [True, False, False, False, True]
    assert [dict(vars(layer)) for layer in model] == before


def test_a_third_derivative_is_torchs() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, 2).double()
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)

    def third(changed: bool) -> Tensor:
        w = layer.weight
        if changed:
            replace_convolutions(layer)
        y = layer(x)
        loss = torch.tanh(y).pow(3).sum()
        for _ in range(3):
            (g,) = torch.autograd.grad(loss, w, create_graph=True)
            loss = (g**2).sum()
        return loss.detach()

    expected = third(False)
    torch.testing.assert_close(third(True), expected)


def test_an_image_alone_and_no_gradients() -> None:
    layer = nn.Conv2d(1, 2, 2)
    x = torch.randn(1, 3, 3)
    replace_convolutions(layer)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias))
    with torch.no_grad():
        torch.testing.assert_close(layer(x[None]), F.conv2d(x[None], layer.weight, layer.bias))
