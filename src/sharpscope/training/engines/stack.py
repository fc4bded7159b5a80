"""One tensor for k models: (k, ...), each model's part where a tensor of its own would begin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

_BOUNDARY = 64  # bytes, on which torch lets every tensor begin


class Stack:
    """A tensor (k, ...) and its k parts, each contiguous and on a boundary of 64 bytes.

    Intel's library of linear algebra sums some products in another order where a matrix begins elsewhere, so parts
    that lay back to back would not give the bits of tensors of their own.
    """

    def __init__(self, whole: Tensor) -> None:
        self.whole = whole
        self.parts: list[Tensor] = list(whole)

    @cached_property
    def flipped(self) -> list[Tensor]:
        """The parts, transposed."""
        return [part.t() for part in self.parts]

    @property
    def dense(self) -> bool:
        """Whether the parts lie back to back, as one operation on all of them wants it."""
        return self.whole.is_contiguous()


def room(k: int, shape: Sequence[int], like: Tensor) -> Stack:
    """Return an uninitialised stack of k parts of a shape, of the dtype of `like`."""
    size = torch.Size(shape).numel()
    apart = -(-size * like.element_size() // _BOUNDARY) * _BOUNDARY // like.element_size()
    parts: Tensor = like.new_empty(k * apart).view(k, apart)[:, :size]
    return Stack(parts.view(k, *shape))


class Rooms:
    """Stacks that are written over step after step, by name and shape; memory fetched anew costs page faults."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.Size], Stack] = {}

    def __call__(self, name: str, like: Tensor, features: int | None = None) -> Stack:
        """Return the stack of that name in the shape of `like` (k, n, d), or with other `features` than d."""
        shape = like.shape if features is None else torch.Size((*like.shape[:-1], features))
        found = self._kept.get((name, shape))
        if found is None:
            found = self._kept[name, shape] = room(shape[0], shape[1:], like)
        return found
