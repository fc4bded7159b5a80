"""How many samples to evaluate together: by what they hold in memory, and fewer once memory has run out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from sharpscope.autograd.ranks import out_of_memory

TARGET = 16 * 2**20
"""Bytes that the forward pass of a chunk may hold for its backward pass.

A chunk should fill the processor's cores and yet leave what it holds in their caches: on two cores with 32 MB of
cache, products of LeNet-5 take 1.4 times as long with 1024 images a chunk as with 256.
"""

CUDA_TARGET = 64 * TARGET
"""The same on a GPU, where small chunks leave most of the device idle."""

LEAST, MOST = 32, 8192


class Chunked(Protocol):
    """What evaluates chunk by chunk and can make its chunks smaller."""

    def smaller_chunks(self) -> int | None:
        """Halve the chunks and return their new size, or None where they cannot be cut any further."""


@contextmanager
def counting_held_bytes(parameters: set[int]) -> Iterator[list[int]]:
    """Count the bytes that autograd holds for backward passes, parameters' storages (by address) left out.

    Yields a list whose sum is the count.
    """
    held: list[int] = []
    seen: set[tuple[int, int]] = set()

    def pack(tensor: Tensor) -> Tensor:
        own = held_here(tensor)
        key = (own.untyped_storage().data_ptr(), own.data_ptr())
        if key[0] not in parameters and key not in seen:
            seen.add(key)
            held.append(own.nbytes)
        return tensor.detach()  # a graph that held its own result would never be freed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield held


def held_here(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor that may be distributed."""
    own: Any = tensor
    with torch.no_grad():
        if hasattr(own, "to_local"):
            own = own.to_local()
        if hasattr(own, "wait"):  # the result of a collective that may not have ended
            own = own.wait()
    return own  # type: ignore[no-any-return]


def chunk_for(bytes_per_sample: float, device: torch.device) -> int:
    """Return the power of two of samples that hold about the target together.

    >>> chunk_for(4096, torch.device("cpu")), chunk_for(1e9, torch.device("cpu"))
    (4096, 32)
    """
    target = CUDA_TARGET if device.type == "cuda" else TARGET
    count = LEAST
    while count < MOST and 2 * count * bytes_per_sample <= target:
        count *= 2
    return count


P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=Chunked)


def retry_with_smaller_chunks(
    method: Callable[Concatenate[C, P], T],
) -> Callable[Concatenate[C, P], T]:
    """Answer an out-of-memory error of a method by making the chunks smaller and calling it again."""

    @functools.wraps(method)
    def answering(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return method(self, *args, **kwargs)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                size = self.smaller_chunks()
                if size is None:
                    raise
            warnings.warn(
                f"out of memory; going on with chunks of {size} samples (chunk_size={size} starts there)",
                ResourceWarning,
                stacklevel=2,
            )

    return answering
