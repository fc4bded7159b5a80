"""Operations whose double backward is missing or wrong: how the first are found, and what replaces the second.

Weight normalisation: the fused kernel treats the saved norms as constants in its double backward, which loses terms
and gives unsymmetric "Hessians" (seen in torch 2.13; error 15 % on a small classifier).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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


_ONCE = once_differentiable(lambda ctx: None).__code__
"""The code of the wrapper that ``once_differentiable`` puts around every backward."""


def graph_nodes(tensors: Iterable[Tensor]) -> Iterator[Any]:
    """Yield every node of the autograd graphs behind some tensors, each once."""
    seen: set[Any] = set()
    stack = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack += [before for before, _ in node.next_functions if before is not None]


def once_differentiable_name(node: Any) -> str | None:
    """Return the name of an operation of a graph that is known to have no double backward, None for all others.

    ``once_differentiable`` gives an error node where what arrives has a graph, and gradients without a graph where it
    has none; so the operation itself is looked at.
    """
    function = getattr(type(node), "_forward_cls", None)
    backward = getattr(function, "backward", None)
    if function is not None and getattr(backward, "__code__", None) is _ONCE:
        return str(function.__name__)
    return "an operation" if node.name() == "torch::autograd::Error" else None


def reduced_precision(node: Any) -> torch.dtype | None:
    """Return float16 or bfloat16 where an operation of a graph gives such numbers, None elsewhere."""
    for metadata in getattr(node, "_input_metadata", None) or ():
        if metadata.dtype in (torch.float16, torch.bfloat16):
            dtype: torch.dtype = metadata.dtype
            return dtype
    return None
