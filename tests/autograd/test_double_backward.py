"""Weight normalisation, whose fused kernel has a wrong double backward."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpscope.autograd.double_backward import twice_differentiable


def _layer(old_style: bool) -> nn.Module:
    torch.manual_seed(0)
    norm = nn.utils.weight_norm if old_style else nn.utils.parametrizations.weight_norm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return norm(nn.Linear(4, 3, bias=False)).double()


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("old_style", [True, False])
def test_the_second_derivative_of_weight_norm_is_that_of_its_definition(old_style: bool, dim: int) -> None:
    """Σ tanh(x (g v/‖v‖)ᵀ) differentiated twice along a direction, by torch.autograd on the formula."""
    torch.manual_seed(1)
    layer = _layer(old_style)
    v = torch.randn(3, 4, dtype=torch.float64)
    axes = {0: (1,), 1: (0,), -1: (0, 1)}[dim]
    g = torch.randn(*(1 if a in axes else n for a, n in enumerate((3, 4))), dtype=torch.float64)
    x, along = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)

    def product(function: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = v.clone().requires_grad_()
        (first,) = torch.autograd.grad(function(leaf), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first, leaf, along)
        return second

    expected = product(lambda v: torch.tanh(x @ (g * v / v.square().sum(axes, keepdim=True).sqrt()).T).sum())
    with twice_differentiable(layer):
        found = product(lambda v: torch.tanh(x @ torch._weight_norm(v, g, dim).T).sum())
    torch.testing.assert_close(found, expected)


def test_models_without_weight_norm_are_left_to_torch() -> None:
    with twice_differentiable(nn.Linear(2, 2)) as mode:
        assert mode is None
