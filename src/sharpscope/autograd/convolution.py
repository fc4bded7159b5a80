"""Convolutions for Hessian products on a CPU: a second derivative made of the kernels of the first.

For y = x ∗ w, an arriving g has the gradients g_x = g ∗ᵀ w and g_w = x ⋆ g. Torch's double backward writes some of
its terms as convolutions of transposed tensors, whose "kernels" are as large as the images and for which the library
has no fast code. They are the first derivative's own operations with other arguments: for incoming v_x and v_w

    ∂/∂g = v_x ∗ w + x ∗ v_w,    ∂/∂x = g ∗ᵀ v_w,    ∂/∂w = v_x ⋆ g.

A product from a kept graph takes 0.7 times as long on LeNet-5, 0.8 times on VGG-11 and ResNet-56. A third derivative
goes through torch's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_CLASSES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_backward: Any = torch.ops.aten.convolution_backward


def replace_convolutions(model: nn.Module) -> None:
    """Give every plain convolution of a model on a CPU the double backward of this file.

    What is written is the attribute ``_conv_forward`` of the layers; `sharpscope.autograd.module_state.SavedState`
    takes it away again.
    """
    for layer in model.modules():
        if _plain(layer):
            layer.__dict__["_conv_forward"] = partial(_forward, layer)


def _plain(layer: nn.Module) -> bool:
    """Say whether a layer convolves as torch's classes do, with zeros around images by number."""
    return (
        any(isinstance(layer, one) and _method(layer) is one._conv_forward for one in _CLASSES)
        and "_conv_forward" not in layer.__dict__
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _method(layer: Any) -> Callable[..., Any]:
    method: Callable[..., Any] = type(layer)._conv_forward
    return method


def _forward(layer: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outputs: Tensor
    if images.device.type != "cpu" or images.ndim != weight.ndim or not torch.is_grad_enabled():
        outputs = _method(layer)(layer, images, weight, bias)
        return outputs
    apply: Any = _Convolution.apply
    outputs = apply(images, weight, bias, (layer.stride, layer.padding, layer.dilation, layer.groups))
    return outputs


def _convolved(images: Tensor, weight: Tensor, bias: Tensor | None, how: tuple[Any, ...]) -> Tensor:
    stride, padding, dilation, groups = how
    return torch.convolution(
        images, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups
    )


def _pulled_back(
    arrived: Tensor, images: Tensor, weight: Tensor, how: tuple[Any, ...], wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return ∂/∂images and ∂/∂weight of (images ∗ weight) · arrived, those that are wanted."""
    stride, padding, dilation, groups = how
    back: tuple[Tensor | None, Tensor | None, None] = _backward(
        arrived,
        images,
        weight,
        None,
        stride,
        padding,
        dilation,
        False,
        [0] * len(stride),
        groups,
        [*wanted, False],
    )
    return back[0], back[1]


class _Convolution(torch.autograd.Function):
    """x ∗ w + b."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, how: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.how = how
        return _convolved(images, weight, bias, how)

    @staticmethod
    def backward(ctx: Any, arrived: Tensor) -> Any:
        images, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        apply: Any = _Gradients.apply
        to_images, to_weight = (
            apply(arrived, images, weight, ctx.how, wanted) if any(wanted) else (None, None)
        )
        bias = arrived.sum((0, *range(2, arrived.ndim))) if ctx.needs_input_grad[2] else None
        return to_images, to_weight, bias, None


class _Gradients(torch.autograd.Function):
    """g ∗ᵀ w and x ⋆ g."""

    @staticmethod
    def forward(
        ctx: Any,
        arrived: Tensor,
        images: Tensor,
        weight: Tensor,
        how: tuple[Any, ...],
        wanted: tuple[bool, bool],
    ) -> Any:
        ctx.save_for_backward(arrived, images, weight)
        ctx.set_materialize_grads(False)
        ctx.how = how
        return _pulled_back(arrived, images, weight, how, wanted)

    @staticmethod
    def backward(ctx: Any, v_images: Tensor | None, v_weight: Tensor | None) -> Any:
        arrived, images, weight = ctx.saved_tensors
        of_arrived, of_images, of_weight = ctx.needs_input_grad[:3]
        out = to_images = to_weight = None
        if v_images is not None:
            if of_arrived:
                out = _convolved(v_images, weight, None, ctx.how)
            if of_weight:
                to_weight = _pulled_back(arrived, v_images, weight, ctx.how, (False, True))[1]
        if v_weight is not None:
            if of_arrived:
                more = _convolved(images, v_weight, None, ctx.how)
                out = more if out is None else out + more
            if of_images:
                to_images = _pulled_back(arrived, images, v_weight, ctx.how, (True, False))[0]
        return out, to_images, to_weight, None, None
