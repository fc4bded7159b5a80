"""Flat vectors of which each rank holds some entries: they have the whole vector's shape and its sums.

Whatever computes with flat vectors computes with these too. Operations on entries touch this rank's alone; sums,
norms, largest entries and inner products are those of the whole vector, the same on every rank, and take one small
collective. What is neither is refused, so that no rank ever takes its own entries for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpscope.autograd.shards import Shards
from sharpscope.errors import InputError

aten = torch.ops.aten

ENTRYWISE = {
    *(
        aten.add,
        aten.sub,
        aten.rsub,
        aten.mul,
        aten.div,
        aten.neg,
        aten.abs,
        aten.sign,
        aten.sgn,
        aten.sqrt,
        aten.rsqrt,
    ),
    *(aten.pow, aten.exp, aten.log, aten.reciprocal, aten.where, aten.clamp, aten.clamp_min, aten.clamp_max),
    *(
        aten.minimum,
        aten.maximum,
        aten.gt,
        aten.ge,
        aten.lt,
        aten.le,
        aten.eq,
        aten.ne,
        aten.isnan,
        aten.nan_to_num,
    ),
    *(
        aten.bitwise_and,
        aten.bitwise_or,
        aten.bitwise_not,
        aten.logical_and,
        aten.logical_or,
        aten.logical_not,
    ),
    *(aten.clone, aten.detach, aten.alias, aten._to_copy, aten.zeros_like, aten.ones_like, aten.empty_like),
    *(
        aten.full_like,
        aten.addcmul,
        aten.addcdiv,
        aten.lerp,
        aten.masked_fill,
        aten.copysign,
        aten.lift_fresh,
    ),
    *(
        aten.add_,
        aten.sub_,
        aten.mul_,
        aten.div_,
        aten.neg_,
        aten.copy_,
        aten.fill_,
        aten.zero_,
        aten.addcmul_,
    ),
    *(aten.addcdiv_, aten.lerp_, aten.clamp_, aten.masked_fill_, aten.sign_, aten.abs_, aten.sqrt_),
}
"""Operations whose result at an entry depends on that entry alone."""

ON_ROWS = {aten.select: 0, aten.slice: 0, aten.unbind: 0, aten.split: 0, aten.index_select: 0}
"""Operations on a dimension, their second argument, which is this one by default."""

LARGEST, SMALLEST = {aten.max, aten.amax}, {aten.min, aten.amin}


class ShardedVectors(Tensor):
    """Vectors (..., size) of which this rank holds the entries ``own`` (..., own_size), cut by ``shards``.

    ``shape`` is that of a single parameter where it is one part of a vector; such a tensor has no rows.
    """

    own: Tensor
    shards: Shards
    single: bool

    @staticmethod
    def __new__(cls, own: Tensor, shards: Shards, shape: Sequence[int] | None = None) -> ShardedVectors:
        """Wrap this rank's entries."""
        whole = (*own.shape[:-1], shards.size) if shape is None else tuple(shape)
        self: ShardedVectors = Tensor._make_wrapper_subclass(cls, whole, dtype=own.dtype, device=own.device)
        self.own, self.shards, self.single = own, shards, shape is not None
        return self

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]
        """Say what is held where."""
        return f"sharded{tuple(self.shape)}, on rank {self.shards.ranks.rank} {self.own}"

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Multiply matrices here, since torch's way changes shapes in place; leave the rest to torch."""
        if (name := getattr(func, "__name__", "")) in ("matmul", "__matmul__", "__rmatmul__"):
            return _product(*(reversed(args) if name == "__rmatmul__" else args))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def whole(self) -> Tensor:
        """Return the whole vectors on every rank; all ranks must ask."""
        return self.shards.gathered(self.own).view(self.shape)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute on this rank's entries, or on all of them by a collective."""
        operation, options = func.overloadpacket, dict(kwargs or {})
        if operation in ENTRYWISE:
            return _entrywise(func, args, options)
        first = args[0]
        if operation in ON_ROWS:
            _require_row_dimension(
                first, args[1] if len(args) > 1 and operation is not aten.split else 0, func
            )
            found = func(first.own, *args[1:], **options)
            return (
                [first.with_own(v) for v in found]
                if isinstance(found, list | tuple)
                else first.with_own(found)
            )
        if (special := SPECIAL.get(operation)) is not None:
            return special(func, *args, **options)
        raise _refusal(func)

    def with_own(self, own: Tensor) -> ShardedVectors:
        """Return other entries of vectors that are cut alike."""
        return ShardedVectors(own, self.shards, self.shape if self.single else None)


def _refusal(func: Any) -> InputError:
    return InputError(
        "vectors that are sharded over ranks take sums, norms, inner products and operations on entries, received "
        f"{func.name().removeprefix('aten::')}; measure with whole parameters in one process"
    )


def _entrywise(func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    one = next(a for a in (*args, *options.values()) if isinstance(a, ShardedVectors))

    def own(value: Any) -> Any:
        if isinstance(value, ShardedVectors):
            if value.shards is not one.shards and value.shards != one.shards:
                raise InputError(
                    "vectors of one calculation must be sharded alike, received two that are not"
                )
            return value.own
        if isinstance(value, Tensor) and value.ndim and value.shape[-1] > 1:
            if one.single or value.shape[-1] != one.shape[-1] or value.stride(-1) != 0:
                raise _refusal(func)
            return value.narrow(-1, 0, one.own.shape[-1])  # one number for all entries of a row
        return value

    found = func(*map(own, args), **{key: own(value) for key, value in options.items()})
    return args[0] if func.name().partition(".")[0].endswith("_") else one.with_own(found)


def _require_row_dimension(vectors: ShardedVectors, dim: int, func: Any) -> None:
    if vectors.single or dim % vectors.ndim == vectors.ndim - 1:
        raise _refusal(func)


def _reduced(vectors: ShardedVectors, dim: Any, func: Any) -> tuple[bool, list[int]]:
    """Return whether a reduction is over the entries of vectors, and over which dimensions."""
    dims = (
        list(range(vectors.ndim))
        if dim is None or dim == []
        else [dim]
        if isinstance(dim, int)
        else list(dim)
    )
    dims = [d % vectors.ndim for d in dims]
    whole = len(dims) == vectors.ndim
    if vectors.single and not whole:
        raise _refusal(func)
    return whole or vectors.ndim - 1 in dims, list(range(vectors.own.ndim)) if whole else dims


def _sum(
    func: Any, vectors: ShardedVectors, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    entries, dims = _reduced(vectors, dim, func)
    found = vectors.own.sum(dims, keepdim, dtype=dtype)
    return vectors.shards.ranks.total(found) if entries else vectors.with_own(found)


def _mean(func: Any, vectors: ShardedVectors, *, dtype: Any = None) -> Tensor:
    found: Tensor = _sum(func, vectors, dtype=dtype) / vectors.numel()
    return found


def _norm(
    func: Any,
    vectors: ShardedVectors,
    order: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    entries, dims = _reduced(vectors, dim, func)
    if order != 2 or not entries:
        raise _refusal(func)
    own = torch.linalg.vector_norm(vectors.own, 2, dims, keepdim, dtype=dtype)
    squares = vectors.shards.ranks.total(own.double().square())
    return squares.sqrt().to(own.dtype)


def _extreme(func: Any, vectors: ShardedVectors, dim: Any = None, keepdim: bool = False) -> Tensor:
    entries, dims = _reduced(vectors, dim, func)
    if not entries:
        raise _refusal(func)
    sign = 1 if func.overloadpacket in LARGEST else -1
    own = sign * vectors.own
    if own.shape[-1] == 0:  # this rank holds none
        own = own.new_full((*own.shape[:-1], 1), -torch.inf)
    return sign * vectors.shards.ranks.largest(own.amax(dims, keepdim))


def _truth(func: Any, vectors: ShardedVectors) -> Tensor:
    every = func.overloadpacket is aten.all
    own = (not bool(vectors.own.all())) if every else bool(vectors.own.any())
    found = bool(vectors.shards.ranks.total(torch.tensor(float(own))))
    return torch.tensor(found != every, device=vectors.device)


def _count_nonzero(func: Any, vectors: ShardedVectors, dim: None = None) -> Tensor:
    if dim is not None:
        raise _refusal(func)
    return vectors.shards.ranks.total(vectors.own.count_nonzero())


def _equal(func: Any, a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Combinations of rows (m, size) with weights (w, m) or (m,), or inner products with a vector (size,)."""
    if isinstance(b, ShardedVectors) and not b.single:
        if not isinstance(a, ShardedVectors) and b.ndim == 2:
            return b.with_own(a @ b.own)
        if isinstance(a, ShardedVectors) and not a.single and b.ndim == 1:
            return a.shards.ranks.total(a.own @ b.own)
    raise InputError(
        "sharded vectors are multiplied as weights @ rows or rows @ vector, received another product"
    )


def _stacked(func: Any, vectors: Sequence[ShardedVectors], dim: int = 0) -> ShardedVectors:
    one = next(v for v in vectors if isinstance(v, ShardedVectors))
    rows = one.ndim + (func.overloadpacket is aten.stack)
    if one.single or dim % rows == rows - 1 or not all(isinstance(v, ShardedVectors) for v in vectors):
        raise _refusal(func)
    return one.with_own(func([v.own for v in vectors], dim))


def _raised(func: Any, vectors: ShardedVectors, dim: int) -> ShardedVectors:
    if vectors.single or dim % (vectors.ndim + 1) == vectors.ndim:
        raise _refusal(func)
    return vectors.with_own(vectors.own.unsqueeze(dim))


def _indexed(func: Any, vectors: ShardedVectors, indices: Sequence[Tensor | None]) -> ShardedVectors:
    if vectors.single or len(indices) >= vectors.ndim:
        raise _refusal(func)
    return vectors.with_own(func(vectors.own, indices))


def _viewed(func: Any, vectors: ShardedVectors, size: Sequence[int]) -> ShardedVectors:
    known = [n for n in size if n != -1]
    missing = vectors.numel() // max(torch.Size(known).numel(), 1) if len(known) < len(size) else 0
    whole = [missing if n == -1 else n for n in size]
    if vectors.single or whole[-1] != vectors.shape[-1]:
        raise _refusal(func)
    return vectors.with_own(vectors.own.reshape(*whole[:-1], vectors.own.shape[-1]))


def _new(func: Any, vectors: ShardedVectors, size: Sequence[int], *rest: Any, **options: Any) -> Tensor:
    if len(size) == 0 or vectors.single:
        return func(vectors.own, size, *rest, **options)  # type: ignore[no-any-return]
    if size[-1] != vectors.shape[-1]:
        raise _refusal(func)
    return vectors.with_own(func(vectors.own, [*size[:-1], vectors.own.shape[-1]], *rest, **options))


SPECIAL: dict[Any, Callable[..., Any]] = {
    aten.sum: _sum,
    aten.mean: _mean,
    aten.linalg_vector_norm: _norm,
    **dict.fromkeys([*LARGEST, *SMALLEST], _extreme),
    **dict.fromkeys([aten.all, aten.any], _truth),
    aten.count_nonzero: _count_nonzero,
    aten.equal: _equal,
    **dict.fromkeys([aten.stack, aten.cat], _stacked),
    aten.unsqueeze: _raised,
    aten.index: _indexed,
    **dict.fromkeys([aten.view, aten.reshape, aten._unsafe_view, aten._reshape_alias], _viewed),
    **dict.fromkeys([aten.new_empty, aten.new_zeros, aten.new_ones, aten.new_full], _new),
}
"""Operations whose result depends on more than one entry, or that change the shape."""
