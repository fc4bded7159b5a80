"""Which entries of each parameter, and so of a flat vector, every rank holds; drawing and gathering them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from sharpscope.autograd.ranks import Ranks

DRAWN = 1 << 16
"""Entries of a random vector drawn at a time. torch draws normal numbers in blocks of 16, so that slices of a
multiple of 16 are the same bits as one draw of all, and no rank needs memory for the whole vector."""


@dataclass(frozen=True)
class Piece:
    """How one tensor is cut: of its shape seen as (before, along, after), each rank holds a range of ``along``.

    ``bounds[r]`` are the first and the end of rank r's range; ``own_shape`` is the shape of this rank's tensor.

    >>> rows = Piece(torch.Size([3, 2]), 1, 3, 2, ((0, 2), (2, 3)), torch.Size([2, 2]))
    >>> rows.size, [rows.size_on(rank) for rank in range(2)]
    (6, [4, 2])
    """

    shape: torch.Size
    before: int
    along: int
    after: int
    bounds: tuple[tuple[int, int], ...]
    own_shape: torch.Size

    @property
    def size(self) -> int:
        """Number of entries of the whole tensor."""
        return self.shape.numel()

    def size_on(self, rank: int) -> int:
        """Number of entries that a rank holds."""
        first, end = self.bounds[rank]
        return self.before * (end - first) * self.after

    def taken(self, whole: Tensor, rank: int) -> Tensor:
        """Return a rank's part of a whole tensor, flat."""
        first, end = self.bounds[rank]
        return whole.reshape(self.before, self.along, self.after)[:, first:end].reshape(-1)

    def gathered(self, own: Tensor, ranks: Ranks) -> Tensor:
        """Return the whole tensor from the part that each rank holds; one collective."""
        sizes = [self.size_on(rank) for rank in range(ranks.size)]
        padded = own.new_zeros(max(sizes))
        padded[: own.numel()] = own.reshape(-1)
        every = [torch.empty_like(padded) for _ in sizes]
        ranks.collect(lambda: dist.all_gather(every, padded, group=ranks.group))
        parts = [part[:size] for part, size in zip(every, sizes, strict=True)]
        if self.before == 1:
            return torch.cat(parts).view(self.shape)
        shaped = [part.view(self.before, -1, self.after) for part in parts if part.numel()]
        return torch.cat(shaped, 1).reshape(self.shape)

    def scattered(self, whole: Tensor, ranks: Ranks) -> Tensor:
        """Return this rank's part of the sum of a whole tensor over all ranks; one collective."""
        sizes = [self.size_on(rank) for rank in range(ranks.size)]
        blocks = whole.new_zeros(ranks.size, max(sizes))
        for rank, size in enumerate(sizes):
            blocks[rank, :size] = self.taken(whole, rank)
        own = torch.empty_like(blocks[0])
        ranks.collect(lambda: dist.reduce_scatter_tensor(own, blocks.reshape(-1), group=ranks.group))
        return own[: sizes[ranks.rank]].clone().view(self.own_shape)


def even_piece(shape: torch.Size, ranks: Ranks) -> Piece:
    """Return how a tensor that every rank has whole is cut into ranges of its entries, all of nearly one size."""
    size = shape.numel()
    ends = [size * (rank + 1) // ranks.size for rank in range(ranks.size)]
    bounds = tuple(zip([0, *ends[:-1]], ends, strict=True))
    first, end = bounds[ranks.rank]
    return Piece(shape, 1, size, 1, bounds, torch.Size([end - first]))


@dataclass(frozen=True)
class Shards:
    """How flat vectors are cut: each as its pieces, one for each parameter in the layout's order.

    A rank's own entries lie in the order of the whole vector.
    """

    ranks: Ranks
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Number of entries of a whole vector."""
        return sum(piece.size for piece in self.pieces)

    @property
    def own_sizes(self) -> tuple[int, ...]:
        """Number of entries that this rank holds of each piece."""
        return tuple(piece.size_on(self.ranks.rank) for piece in self.pieces)

    @property
    def own_size(self) -> int:
        """Number of entries of a vector that this rank holds."""
        return sum(self.own_sizes)

    @property
    def most(self) -> int:
        """Number of entries on the rank that holds most of them."""
        return max(sum(piece.size_on(rank) for piece in self.pieces) for rank in range(self.ranks.size))

    def taken(self, whole: Tensor) -> Tensor:
        """Return this rank's entries (..., own_size) of whole vectors (..., size)."""
        rows = whole.reshape(-1, self.size)
        parts = [
            torch.stack([piece.taken(row, self.ranks.rank) for row in part])
            for piece, part in zip(self.pieces, rows.split([p.size for p in self.pieces], 1), strict=True)
        ]
        return torch.cat(parts, 1).reshape(*whole.shape[:-1], self.own_size)

    def gathered(self, own: Tensor) -> Tensor:
        """Return whole vectors (..., size) from what each rank holds of them (..., own_size)."""
        rows = [
            torch.cat(
                [
                    piece.gathered(part, self.ranks).reshape(-1)
                    for piece, part in zip(self.pieces, row.split(self.own_sizes), strict=True)
                ]
            )
            for row in own.reshape(-1, self.own_size)
        ]
        return torch.stack(rows).reshape(*own.shape[:-1], self.size)

    def drawn(self, draw: Callable[[int], Tensor]) -> Tensor:
        """Return this rank's entries (own_size,) of a random vector, ``draw(n)`` giving its next n entries.

        All ranks draw the same whole vector, slice by slice, and keep their own.
        """
        starts = [0, *range(DRAWN, self.size - DRAWN + 1, DRAWN)]
        kept: list[Tensor] = []
        for start, end in zip(starts, [*starts[1:], self.size], strict=True):
            numbers, offset = draw(end - start), 0
            kept.append(numbers[:0])
            for piece in self.pieces:
                low, high = max(start, offset), min(end, offset + piece.size)
                if low < high:
                    kept.append(
                        _within(piece, self.ranks.rank, numbers[low - start : high - start], low - offset)
                    )
                offset += piece.size
        return torch.cat(kept)


def _within(piece: Piece, rank: int, numbers: Tensor, start: int) -> Tensor:
    """Return those of a piece's consecutive entries, from number ``start`` on, that a rank holds."""
    first, end = piece.bounds[rank]
    if piece.before == 1:
        low, high = first * piece.after - start, end * piece.after - start
        return numbers[max(low, 0) : max(high, 0)]
    position = torch.arange(start, start + len(numbers)) // piece.after % piece.along
    return numbers[(position >= first) & (position < end)]


def piece_of(shape: torch.Size, dim: int, lengths: Sequence[int], own_shape: torch.Size) -> Piece:
    """Return how a tensor is cut along one dimension, of which each rank holds so many."""
    ends = [sum(lengths[: rank + 1]) for rank in range(len(lengths))]
    bounds = tuple((end - count, end) for end, count in zip(ends, lengths, strict=True))
    return Piece(shape, math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]), bounds, own_shape)
