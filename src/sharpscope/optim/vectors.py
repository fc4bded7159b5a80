"""Norms, dot products and multiples of lists of tensors.

Lists may mix dense and sparse tensors and shards of FSDP2 (DTensors). A norm is that of the whole vector, whatever
rank holds its parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, distributed

SAFE = {torch.float32: (1e-12, 1e15), torch.float64: (1e-140, 1e140)}
"""Between these bounds the squares that a norm adds up neither underflow nor overflow, by precision."""

LARGEST_FACTOR = 3e38
"""ρ/‖g‖ stays representable in float32, so that a gradient of zeros moves nothing (0 · 3e38) and gives no NaN."""


def joint_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the 2-norm of all entries of all tensors, a float64 scalar on the first one's device.

    It is exact to float precision for gradients of any size: where squares would underflow or overflow the sum is
    taken in float64, or of entries divided by the largest.

    >>> f"{joint_norm([torch.full((2,), 3e-24), torch.full((2,), 3e-24)]).item():.6g}"
    '6e-24'
    """
    lists = list(_alike(tensors))
    if not lists:
        return torch.zeros((), dtype=torch.float64)
    device = lists[0][0].device
    if device.type == "cpu":  # a look at the result waits for nothing here
        norm = math.hypot(*[n for part in lists for n in _norms_of_alike(part, None).tolist()])
        low, high = SAFE[torch.float32 if any(_single(part[0]) for part in lists) else torch.float64]
        if math.isnan(norm) or low < norm < high:
            return torch.tensor(norm, dtype=torch.float64)
    norms = [_careful_norm(part).to(device, torch.float64) for part in lists]
    return _norm(torch.stack(norms))


def joint_dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the dot product of two lists of tensors of the same shapes, a float64 scalar.

    >>> joint_dot([torch.tensor([1.0, 2.0]), torch.tensor(3.0)], [torch.tensor([1.0, 1.0]), torch.tensor(2.0)])
    tensor(9., dtype=torch.float64)
    """
    total = torch.zeros((), dtype=torch.float64, device=a[0].device if a else None)
    for x, y in zip(a, b, strict=True):
        product = (x.conj() * y).sum() if x.layout == y.layout == torch.strided else (x * y).to_dense().sum()
        total = total + whole(product).real.to(total)
    return total


def whole(tensor: Tensor) -> Tensor:
    """Return a DTensor's value as an ordinary tensor, for which every rank must ask; others as they are."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a DTensor; other tensors as they are."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def is_sharded(tensor: Tensor) -> TypeGuard[distributed.tensor.DTensor]:
    """Say whether a tensor is a DTensor, as FSDP2 makes them."""
    return hasattr(tensor, "full_tensor") and hasattr(tensor, "to_local")


def multiplied(tensors: list[Tensor], factors: list[Tensor] | float | Tensor) -> list[Tensor]:
    """Return the products of dense or sparse tensors with a number or with a dense tensor each."""
    if tensors[0].layout == torch.strided:
        return list(torch._foreach_mul(tensors, factors))
    if isinstance(factors, list):
        return [(x * f).coalesce() for x, f in zip(tensors, factors, strict=True)]
    return [x * factors for x in tensors]


def add_multiple(parameters: list[Tensor], directions: list[Tensor], rho: float, norm: Tensor) -> None:
    """Add ρ/‖·‖ times the directions in place."""
    if norm.device.type == "cpu":  # as a number the factor spares a pass over memory
        factor = rho / n if (n := norm.item()) else 0.0
        if abs(factor) > LARGEST_FACTOR:  # NaN stays NaN
            factor = math.copysign(LARGEST_FACTOR, factor)
        if directions[0].layout == torch.strided:
            torch._foreach_add_(parameters, directions, alpha=factor)
            return
        for p, d in zip(parameters, directions, strict=True):
            p.add_(d, alpha=factor)
        return
    tensor = (rho / norm).clamp(-LARGEST_FACTOR, LARGEST_FACTOR)  # its value would have to be waited for
    for p, d in zip(parameters, multiplied(directions, tensor), strict=True):
        p.add_(d)


def _alike(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Group tensors that one operation may take: values of sparse ones, shards of one mesh, one device."""
    groups: dict[object, list[Tensor]] = {}
    for t in tensors:
        if t.layout != torch.strided:
            t = t.coalesce().values()
        if t.numel():
            key = (t.device, t.dtype, t.device_mesh if is_sharded(t) else None)
            groups.setdefault(key, []).append(t)
    return groups.values()


def _single(tensor: Tensor) -> bool:
    return tensor.dtype not in (torch.float64, torch.complex128)


def _norms_of_alike(tensors: list[Tensor], dtype: torch.dtype | None) -> Tensor:
    """Return the norm of each of some tensors; of shards their norm over all, as one."""
    if tensors[0].dtype in (torch.float16, torch.bfloat16) and dtype is None:
        dtype = torch.float32  # squares overflow later there
    norms = torch.stack(
        list(torch._foreach_norm(tensors))
        if dtype is None
        else [torch.linalg.vector_norm(t, dtype=dtype) for t in tensors]
    )
    return whole(_norm(norms)).reshape(1) if is_sharded(norms) else norms


def _careful_norm(tensors: list[Tensor]) -> Tensor:
    """The norm with squares that stay in range: of float32 in float64, of float64 relative to the largest entry."""
    if _single(tensors[0]):
        dtype = torch.complex128 if tensors[0].is_complex() else torch.float64
        return _norm(_norms_of_alike(tensors, dtype))
    largest = torch.stack([whole(t.abs().max()) for t in tensors]).max()
    largest = largest.clamp_min(torch.finfo(torch.float64).tiny)  # of zeros: 0/tiny, not 0/0
    return largest * _norm(_norms_of_alike([t / largest for t in tensors], None))


def _norm(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm
