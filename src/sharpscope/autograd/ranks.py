"""Processes that measure one function together: sums over all of them, and errors that reach all of them.

Every method is a collective: all ranks must call it, in the same order. Numbers travel in float64 and come back in
the order of the ranks, so that every rank sums them alike and decides alike.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sharpscope.errors import InputError, RanksError

T = TypeVar("T")

FINE, FAILED, OUT_OF_MEMORY = 0.0, 1.0, 2.0
"""How a rank's own part of an evaluation ended."""


class Ranks:
    """The processes of a group, and this process's place among them.

    Parameters
    ----------
    group
        A process group of `torch.distributed` that this process is a member of, `dist.group.WORLD` for example.
    device
        Where small tensors are made for the collectives: NCCL takes none that lie on a CPU.

    """

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        self.group, self.device = group, device
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise InputError(
                "group must hold this process, received a group of others; measure on its members only"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self  # a process group cannot be copied

    def total(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all ranks, and return it."""
        whole = tensor.to(self.device).contiguous()
        self.collect(lambda: dist.all_reduce(whole, group=self.group))
        return tensor if whole is tensor else tensor.copy_(whole)

    def largest(self, tensor: Tensor) -> Tensor:
        """Return the entrywise maximum over all ranks."""
        whole = tensor.to(self.device).contiguous().clone()
        self.collect(lambda: dist.all_reduce(whole, dist.ReduceOp.MAX, group=self.group))
        return whole.to(tensor.device)

    def each(self, numbers: Sequence[float]) -> list[list[float]]:
        """Return the numbers of every rank, which all give equally many."""
        mine = torch.tensor([list(numbers)], dtype=torch.float64, device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        self.collect(lambda: dist.all_gather(every, mine, group=self.group))
        found: list[list[float]] = torch.cat(every).tolist()
        return found

    def joined(self, rows: Tensor) -> Tensor:
        """Return the rows (n, ...) of all ranks, in the order of the ranks; n may differ between them."""
        counts = [int(count) for (count,) in self.each([len(rows)])]
        padded = rows.new_zeros((max(counts), *rows.shape[1:])).to(self.device)
        padded[: len(rows)] = rows
        every = [torch.empty_like(padded) for _ in counts]
        self.collect(lambda: dist.all_gather(every, padded, group=self.group))
        return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)]).to(rows.device)

    def from_first(self, value: Any, present: bool) -> Any:
        """Return the value of the first rank that has one (tensors, numbers and words in lists, tuples and dicts)."""
        owner = [has for (has,) in self.each([float(present)])].index(1.0)
        buffer = io.BytesIO()
        if self.rank == owner:
            torch.save(value, buffer)
        whole = torch.frombuffer(bytearray(buffer.getvalue() or b"-"), dtype=torch.uint8)
        whole = self.joined(whole if self.rank == owner else whole[:0])
        return torch.load(io.BytesIO(whole.numpy().tobytes()), weights_only=True)

    def require_same(self, what: str, digest: str, remedy: str) -> None:
        """Refuse ranks that differ in what the digest is of."""
        mine = float(int(hashlib.sha256(digest.encode()).hexdigest()[:12], 16))  # 48 bits, exact in float64
        every = [number for (number,) in self.each([mine])]
        if len(set(every)) > 1:
            other = next(rank for rank, number in enumerate(every) if number != every[0])
            raise InputError(
                f"all ranks must have the same {what}, rank {other} has not what rank 0 has; {remedy}"
            )

    def digest(self, own: str) -> str:
        """Return a digest of every rank's own digest, in hexadecimal digits."""
        mine = torch.tensor([list(bytes.fromhex(own))], dtype=torch.uint8)
        return hashlib.sha256(self.joined(mine).numpy().tobytes()).hexdigest()

    def as_one(self, function: Callable[[], T]) -> T:
        """Return ``function()``, which uses no collective; where it fails on one rank it fails on all of them."""
        value, error = _attempt(function)
        self._raise_together(error, [code for (code,) in self.each([_code(error)])])
        return value  # type: ignore[return-value]

    def add_up(
        self, function: Callable[[], tuple[Tensor | None, tuple[float, ...]]], count: int
    ) -> tuple[Tensor | None, list[float]]:
        """Return the sums over all ranks of what ``function`` returns: a tensor, if any, and ``count`` numbers.

        The tensor, of one shape on all ranks, takes one collective. The numbers and how the function ended on each
        rank take a small one before it.
        """
        value, error = _attempt(function)
        tensor, numbers = (None, (0.0,) * count) if value is None else value
        every = self.each([_code(error), *numbers])
        self._raise_together(error, [code for code, *_ in every])
        sums = [sum(column) for column in zip(*(rest for _, *rest in every), strict=True)]
        return (None if tensor is None else self.total(tensor)), sums

    def _raise_together(self, error: Exception | None, codes: list[float]) -> None:
        if error is not None:
            raise error
        if OUT_OF_MEMORY in codes:
            raise torch.OutOfMemoryError(f"rank {codes.index(OUT_OF_MEMORY)} ran out of memory")
        if FAILED in codes:
            raise RanksError(
                f"all ranks must succeed, rank {codes.index(FAILED)} of {self.size} has failed; see its own message"
            )

    def collect(self, collective: Callable[[], object]) -> None:
        """Call a collective; where a rank cannot be reached, say so."""
        try:
            collective()
        except RuntimeError as error:
            raise self.lost(error) from error

    def lost(self, error: BaseException) -> RanksError:
        """Return the error for a rank that can no longer be reached."""
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        said = said.partition("] ")[2] or said
        said = said.partition(". ")[0]
        return RanksError(
            f"all {self.size} ranks must stay alive while they measure together, rank {self.rank} lost another one "
            f"({said}); see that one's message, and begin again"
        )


def is_of_collective(error: RuntimeError) -> bool:
    """Return whether an error is of a collective that another rank has left."""
    return isinstance(error, dist.DistError) or any(
        word in str(error) for word in ("gloo", "NCCL", "Connection")
    )


def _attempt(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return function(), None
    except RanksError:  # the ranks can no longer agree on anything
        raise
    except Exception as error:
        return None, error


def _code(error: Exception | None) -> float:
    if error is None:
        return FINE
    return OUT_OF_MEMORY if isinstance(error, RuntimeError) and out_of_memory(error) else FAILED


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    words = str(error)  # the CPU allocator has no class of its own
    return "DefaultCPUAllocator" in words or "not enough memory" in words


def note_of_world() -> dict[str, object]:
    """Return what a protocol says of a process that measures alone although it is one of several.

    >>> note_of_world()
    {}
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return {}
    return {"ranks": f"this process's data alone, rank {dist.get_rank()} of {dist.get_world_size()}"}


def shares(counts: Sequence[float]) -> list[tuple[int, int]]:
    """Return which consecutive numbers (first, end) fall to each rank.

    >>> shares([3, 0, 2])
    [(0, 3), (3, 3), (3, 5)]
    """
    ends = [int(math.fsum(counts[: rank + 1])) for rank in range(len(counts))]
    return [(end - int(count), end) for end, count in zip(ends, counts, strict=True)]
