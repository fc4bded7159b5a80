"""Batch normalisation, ReLU and max pooling in one, for training on a CPU: most of the work on pooled maps alone.

Normalisation by a positive scale and ReLU are increasing, so the largest activation of a window is the activation of
its largest input: pool first, normalise and rectify what is left, for 2 × 2 windows a quarter. Backward the same:
what arrives is zero but at the chosen places, and the rest of the derivative is affine in the input,

    ∂L/∂x = s (d − (Σ d)/n − x̂ (Σ d x̂)/n),    s = γ/σ,  x̂ = (x − μ)/σ,  d = ∂L/∂output at the chosen places, else 0.

Torch makes twenty passes over the large maps, this eight. Sums are taken in another order, so results differ from
torch's in the last bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.training.cpu.pooling import VECTOR, max_pool, maxima, window_of

Forward = Callable[[Tensor], Tensor]


def normalised_poolings(models: Iterable[nn.Module]) -> dict[nn.Module, Forward]:
    """Return other forwards for the layers of every such triple in a ``Sequential``.

    The first computes all three where it can; the others then hand its result on. It cannot in eval mode, with a
    scale that is not positive, or where the dtypes of weights and images differ.
    """
    found: dict[nn.Module, Forward] = {}
    for model in models:
        sequences = [list(module) for module in model.modules() if type(module) is nn.Sequential]
        used = Counter(id(layer) for layers in sequences for layer in layers)
        for layers in sequences:
            for triple in zip(layers, layers[1:], layers[2:], strict=False):
                if _fits(*triple) and all(used[id(layer)] == 1 and not _watched(layer) for layer in triple):
                    found |= _Block(*triple).forwards()
    return found


def _fits(norm: nn.Module, relu: nn.Module, pool: nn.Module) -> bool:
    return (
        type(norm) is nn.BatchNorm2d
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and norm.num_features >= VECTOR
        and type(relu) is nn.ReLU
        and not relu.inplace
        and type(pool) is nn.MaxPool2d
        and window_of(pool) is not None
    )


def _watched(layer: nn.Module) -> bool:
    return any(
        (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    )


class _Block:
    """The three layers of one triple."""

    def __init__(self, norm: nn.Module, relu: nn.Module, pool: nn.Module) -> None:
        self._norm, self._relu, self._pool = norm, relu, pool
        self._window: Any = window_of(pool)
        self._done = False  # whether the first layer has done the others' work as well

    def forwards(self) -> dict[nn.Module, Forward]:
        def relu(x: Tensor) -> Tensor:
            return x if self._done else torch.relu(x)

        def pool(x: Tensor) -> Tensor:
            return x if self._done else max_pool(x, self._window)

        return {self._norm: self._forward, self._relu: relu, self._pool: pool}

    def _forward(self, images: Tensor) -> Tensor:
        norm: Any = self._norm
        n = images.numel() // images.shape[1]
        self._done = (
            norm.training
            and images.ndim == 4
            and n > 1
            and images.dtype == norm.weight.dtype
            and images.is_contiguous()
            and bool((norm.weight > 0).all())
        )
        if not self._done:
            normalised: Tensor = nn.BatchNorm2d.forward(norm, images)
            return normalised
        with torch.no_grad():
            mean = images.mean((0, 2, 3))
            variance = (images - mean[:, None, None]).square_().mean((0, 2, 3))
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (n / (n - 1)), norm.momentum)
        block: Any = _NormalisedPooling.apply
        pooled: Tensor = block(images, norm.weight, norm.bias, mean, variance, norm.eps, self._window)
        return pooled


class _NormalisedPooling(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        window: list[list[int]],
    ) -> Tensor:
        largest, places = maxima(images, window)
        outputs = torch.native_batch_norm(largest, weight, bias, mean, variance, False, 0.0, eps)[
            0
        ].clamp_min_(0)
        ctx.save_for_backward(images, largest, places, outputs, weight, mean, (variance + eps).rsqrt())
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        images, largest, places, outputs, weight, mean, inverse = ctx.saved_tensors
        n = images.numel() // images.shape[1]
        d = torch.ops.aten.threshold_backward(gradient, outputs, 0)
        shift = d.sum((0, 2, 3))  # Σ d
        scale = ((d * largest).sum((0, 2, 3)) - mean * shift) * inverse  # Σ d x̂
        steepness = weight * inverse
        slope = -steepness * inverse * scale / n
        level = -steepness * shift / n - slope * mean
        back = (images * slope[:, None, None]).add_(level[:, None, None])
        d.mul_(steepness[:, None, None])
        back.flatten(2).scatter_add_(2, places.flatten(2), d.flatten(2))
        return back, scale, shift, None, None, None, None
