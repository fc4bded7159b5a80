"""Checks on a user's loss: that it is a mean over samples, and a stable description of what it is."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.errors import InputError
from sharpscope.objective.batches import update_with_tensor


def check_mean_reduction(loss: Callable[[Any, Any], Tensor], outputs: Any, targets: Tensor) -> None:
    """Refuse a loss that is not the mean over the samples of its batch.

    The mean over a batch must equal the sample-weighted mean over its parts. A sum does not, nor does a
    mean normalised by class weights or ignored targets; those depend on how the data is cut into batches.
    """
    reduction = getattr(loss, "reduction", "mean")
    value = loss(outputs, targets)
    if not isinstance(value, Tensor) or value.numel() != 1:
        received = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"loss(outputs, targets) must return the mean over the batch as a scalar tensor, received {received}; "
            "use reduction='mean'"
        )
    n = len(targets)
    if n < 2 or not isinstance(outputs, Tensor) or len(outputs) != n:
        return
    first = (n + 2) // 3  # uneven parts: equal ones would let a mean of batch means pass
    weighted = (
        first * loss(outputs[:first], targets[:first]) + (n - first) * loss(outputs[first:], targets[first:])
    ) / n
    if not torch.allclose(value, weighted, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise InputError(
            f"loss must be the mean over samples, received {_short(loss)} "
            f"(reduction {reduction!r}), whose value on {n} samples is {float(value):.6g} where its parts average "
            f"{float(weighted):.6g}; use reduction='mean' without class weights, or Objective.from_batch_loss"
        )


def describe_callable(function: Any) -> str:
    """Return a description of a loss that is the same in every process and changes with its meaning."""
    if isinstance(function, functools.partial):
        keywords = sorted(function.keywords.items())
        return f"partial({describe_callable(function.func)}, {function.args!r}, {keywords!r})"
    if isinstance(function, nn.Module):
        digest = hashlib.sha256()
        for name, tensor in function.state_dict().items():
            digest.update(name.encode())
            update_with_tensor(digest, tensor)
        return f"{type(function).__module__}.{function!r}[{digest.hexdigest()[:8]}]"
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    code = getattr(function, "__code__", None)
    if code is None:
        return name
    constants = tuple(c for c in code.co_consts if isinstance(c, int | float | str | bool | None.__class__))
    body = hashlib.sha256(code.co_code + repr((constants, code.co_names)).encode()).hexdigest()[:8]
    return f"{name}[{body}]"


def _short(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
