"""Kernels whose second derivative is missing or wrong, and what is used in their place while measuring.

- scaled-dot-product attention: flash and memory-efficient kernels have no double backward; the math kernel has.
- recurrent layers on CUDA: cuDNN's have no double backward; PyTorch's own have.
- weight normalisation: the fused kernel treats the saved norms as constants in its double backward, which
  loses terms and gives unsymmetric "Hessians" (seen in torch 2.13; error 15 % on a small classifier).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


class _PlainWeightNorm(TorchFunctionMode):
    """Computes weight normalisation g v/‖v‖ from differentiable operations."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = [axis for axis in range(v.ndim) if axis != dim % v.ndim] if dim != -1 else list(range(v.ndim))
    norm = torch.linalg.vector_norm(v, dim=others, keepdim=True)
    normalised: Tensor = v * (g / norm)
    return normalised


@contextmanager
def twice_differentiable(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluate the model through kernels that have a correct double backward."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(type(m).__name__ == "_WeightNorm" for m in model.modules()) or _has_weight_norm_hook(model):
            stack.enter_context(_PlainWeightNorm())
        if device.type == "cuda" and any(isinstance(m, nn.RNNBase) for m in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def _has_weight_norm_hook(model: nn.Module) -> bool:
    """True for the older ``torch.nn.utils.weight_norm``, which computes in a forward pre-hook."""
    hooks = (hook for m in model.modules() for hook in m._forward_pre_hooks.values())
    return any(type(hook).__name__ == "WeightNorm" for hook in hooks)
