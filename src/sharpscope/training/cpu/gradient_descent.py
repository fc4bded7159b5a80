"""Plain gradient descent on a perceptron's linear layers, for training on a CPU, without a stored gradient.

A step of plain gradient descent is W ← W − η Dᵀ X, with X (n, inputs) the layer's inputs and D (n, outputs) the
derivative of the loss by its outputs. Autograd writes Dᵀ X to memory, and the optimizer reads it again. One matrix
product that adds −(η D)ᵀ X to W spares three of five passes over memory of its size. Gradients ``weight.grad`` and
``bias.grad`` stay None. The rounding differs, so results differ from the optimizer's in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.models.mlp import MLP

_MODULES = (nn.Linear, nn.Dropout, nn.ReLU, nn.ELU, nn.GELU, nn.Tanh, nn.Flatten)


def descending_layers(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """Return other forwards for the linear layers of a perceptron; none where this way does not apply.

    It applies to a model that is a sequence of the usual layers of a perceptron, each used once, without hooks,
    no weight frozen, under ``torch.optim.SGD`` without momentum or decay. The backward pass of such a layer takes
    the optimizer's step of the layer's weights at the rate that the optimizer has then.
    """
    layers = _sequence(model)
    parameters = list(model.parameters())
    if (
        not layers
        or not _plain_descent(optimizer)
        or len({id(layer) for layer in layers}) < len(layers)
        or len(parameters)
        != sum(len(list(layer.parameters())) for layer in layers)  # some weights are shared
        or not all(p.requires_grad and p.is_contiguous() for p in parameters)
        or any(_watched(module) for module in model.modules())
    ):
        return {}
    forwards: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
    for layer in layers:
        if type(layer) is nn.Linear:
            forwards[layer] = partial(_linear, layer, optimizer)
        elif type(layer) is nn.BatchNorm1d:
            forwards[layer] = partial(_batch_norm, layer, optimizer)
    return forwards


def _sequence(model: nn.Module) -> list[nn.Module]:
    """The layers of a model that is nothing but a sequence of known layers, else none."""
    inner = model.layers if type(model) is MLP else model
    layers = list(inner) if type(inner) is nn.Sequential else []
    return layers if all(_known(layer) for layer in layers) else []


def _known(layer: nn.Module) -> bool:
    if type(layer) is nn.BatchNorm1d:
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    return type(layer) in _MODULES


def _plain_descent(optimizer: torch.optim.Optimizer) -> bool:
    options = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
    return type(optimizer) is torch.optim.SGD and not any(optimizer.defaults[key] for key in options)


def _watched(module: nn.Module) -> bool:
    """True where somebody hooked into the module, or computes one of its weights."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module) or hasattr(module, "parametrizations")


def _linear(layer: nn.Linear, optimizer: torch.optim.Optimizer, inputs: Tensor) -> Tensor:
    if not torch.is_grad_enabled() or inputs.ndim != 2:
        return nn.Linear.forward(layer, inputs)
    apply: Any = _DescendingLinear.apply
    outputs: Tensor = apply(inputs, layer.weight, layer.bias, optimizer)
    return outputs


class _DescendingLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, optimizer: torch.optim.Optimizer
    ) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.layer = weight, bias, optimizer
        return nn.functional.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (inputs,) = ctx.saved_tensors
        weight, bias, optimizer = ctx.layer
        onward = gradient.mm(weight) if ctx.needs_input_grad[0] else None  # (n, inputs)
        step = gradient.mul(-optimizer.param_groups[0]["lr"])  # (n, outputs)
        weight.data.addmm_(step.t(), inputs)
        if bias is not None:
            bias.data.add_(step.sum(0))
        return onward, None, None, None


def _batch_norm(layer: nn.BatchNorm1d, optimizer: torch.optim.Optimizer, inputs: Tensor) -> Tensor:
    if not torch.is_grad_enabled() or not layer.training:
        return nn.BatchNorm1d.forward(layer, inputs)
    apply: Any = _Descending.apply
    weight, bias = apply(layer.weight, optimizer), apply(layer.bias, optimizer)
    assert layer.num_batches_tracked is not None
    assert layer.momentum is not None
    layer.num_batches_tracked.add_(1)
    mean, variance = layer.running_mean, layer.running_var
    return nn.functional.batch_norm(inputs, mean, variance, weight, bias, True, layer.momentum, layer.eps)


class _Descending(torch.autograd.Function):
    """The identity on a parameter; its backward pass takes the parameter's step."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        ctx.kept = parameter, optimizer
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        parameter, optimizer = ctx.kept
        parameter.data.sub_(gradient * optimizer.param_groups[0]["lr"])
        return None, None
