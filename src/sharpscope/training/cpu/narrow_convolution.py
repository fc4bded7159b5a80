"""A network's first convolution, for training on a CPU: the gradient of its weights as one matrix product.

The library behind torch's backward pads channels to the width of a vector, and so works eight times for the one
channel of a grey image. Nobody asks for the image's gradient, so what is left is

    ∂L/∂W = D Xᵀ,    ∂L/∂b = D 1,

D (channels out, n h w) what arrives, X (k², n h w) the windows of the images, some images at a time. On LeNet-5's
first layer that takes a third of the time; for three channels it was slower. Sums are taken in another order, so
results differ from torch's in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_ENTRIES = 1 << 20
"""Entries of X at a time: 4 MiB stay in the processor's caches."""


def narrow_convolution(layer: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return another forward for a convolution of grey images, None for any other layer."""
    if (
        type(layer) is not nn.Conv2d
        or layer.in_channels != 1
        or layer.groups != 1
        or layer.dilation != (1, 1)
        or layer.padding_mode != "zeros"
        or isinstance(layer.padding, str)
        or not layer.weight.requires_grad
    ):
        return None
    return partial(_forward, layer)


def _forward(layer: nn.Conv2d, images: Tensor) -> Tensor:
    outputs: Tensor
    if (
        images.ndim != 4
        or images.requires_grad
        or not torch.is_grad_enabled()
        or images.dtype != layer.weight.dtype
        or torch.is_autocast_enabled("cpu")
    ):
        outputs = nn.Conv2d.forward(layer, images)
    else:
        apply: Any = _NarrowConvolution.apply
        outputs = apply(images, layer.weight, layer.bias, layer.stride, layer.padding)
    return outputs


class _NarrowConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(images)
        ctx.kind = weight.shape, stride, padding, bias is not None
        return functional.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (images,) = ctx.saved_tensors
        shape, (down, across), (above, beside), biased = ctx.kind
        out, _, height, width = shape
        if above or beside:
            images = functional.pad(images, (beside, beside, above, above))
        whole = gradient.new_zeros(out, height * width)
        step = max(1, _ENTRIES // (gradient[0, 0].numel() * height * width))
        for some, arrived in zip(images.split(step), gradient.split(step), strict=True):
            windows = some[:, 0].unfold(1, height, down).unfold(2, width, across)  # (n, rows, columns, k, k)
            columns = windows.permute(3, 4, 0, 1, 2).reshape(height * width, -1)
            whole.addmm_(arrived.transpose(0, 1).reshape(out, -1), columns.t())
        bias = gradient.sum((0, 2, 3)) if biased else None
        return None, whole.view(shape), bias, None, None
