"""Who holds what of a measured function, where several processes measure it together.

Data parallel: every rank has the whole model and its own part of the data, L(θ) is the mean over all parts. The parts
are numbered one after another in the order of the ranks, as if they were one data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from sharpscope.autograd.ranks import Ranks, shares
from sharpscope.errors import InputError
from sharpscope.objective.batches import update_with_tensor

if TYPE_CHECKING:
    from sharpscope.objective.measured_function import MeasuredFunction

T = TypeVar("T")
Sums = tuple[Tensor | None, tuple[float, ...]]


class DataParallel:
    """Every rank has the whole model and a part of the data, which may be no data at all.

    Losses, gradients and products are evaluated on each rank's own part and added up with one collective of the
    vector. Random draws come from seeds, so that they are the same on all ranks without any collective.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    @property
    def protocol(self) -> dict[str, object]:
        """What a protocol says of it."""
        return {"ranks": f"the data of all {self.ranks.size} ranks"}

    def add_up(self, function: Callable[[], Sums], count: int) -> tuple[Tensor | None, list[float]]:
        """Return the sums over all data of what ``function`` returns for this rank's: a tensor and some numbers."""
        return self.ranks.add_up(function, count)

    def check(self, function: Callable[[], T], evaluator: MeasuredFunction) -> T | None:
        """Return a check of this rank's first samples, None without data; where it fails, all ranks fail."""
        return self.ranks.as_one(lambda: function() if evaluator.batches.count else None)

    def require_agreement(self, evaluator: MeasuredFunction) -> None:
        """Refuse ranks that hold another model than the others, or measure it otherwise."""
        digest = hashlib.sha256(repr((evaluator.layout, evaluator.mode, str(evaluator.dtype))).encode())
        digest.update(repr((evaluator.dropout, evaluator.dropout_seed)).encode())
        for tensor in [*evaluator.model.parameters(), *evaluator.model.buffers()]:
            update_with_tensor(digest, tensor)
        self.ranks.require_same(
            "model, mode and precision",
            digest.hexdigest(),
            "load the same checkpoint on every rank, or broadcast rank 0's",
        )

    def counts(self, *own: float) -> list[list[float]]:
        """Return each of some numbers on every rank."""
        return [list(numbers) for numbers in zip(*self.ranks.each(own), strict=True)]

    def split(self, indices: Tensor, counts: Sequence[float]) -> tuple[Tensor, list[float]]:
        """Return which of the indices (m,) into all the data fall to this rank, as a mask, and how many to each."""
        masks = [(indices >= first) & (indices < end) for first, end in shares(counts)]
        return masks[self.ranks.rank], [float(mask.sum()) for mask in masks]

    def first(self, counts: Sequence[float]) -> int:
        """Return the number of this rank's first item among those of all ranks, which hold so many each."""
        return shares(counts)[self.ranks.rank][0]

    def rows_of_all(self, function: Callable[[], list[Tensor] | None], none: Tensor) -> Tensor | None:
        """Return the rows that ``function`` gives of each rank's samples, in order; None where one has none to give.

        ``none`` (0, ...) stands for the rows of a rank without data.
        """
        parts = self.ranks.as_one(function)
        if any(missing for (missing,) in self.ranks.each([float(parts is None)])):
            return None
        return self.ranks.joined(torch.cat([none, *(parts or [])]))

    def digest(self, own: str) -> str:
        """Return a digest of all ranks' data from that of this rank's."""
        mine = torch.tensor([list(bytes.fromhex(own))], dtype=torch.uint8)
        return hashlib.sha256(self.ranks.joined(mine).numpy().tobytes()).hexdigest()


def refuse_parts(distribution: DataParallel | None, what: str) -> None:
    """Refuse to look at single samples where other ranks hold some of them."""
    if distribution is not None:
        raise InputError(
            f"{what} needs all the data in one process, received a part of it on each of {distribution.ranks.size} "
            "ranks; measure it with an objective in one process"
        )


def data_parallel(group: Any, device: torch.device) -> DataParallel | None:
    """Return how the data of a process group is shared out; None without a group."""
    if group is None:
        return None
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise InputError(
            "group must be a process group of torch.distributed, which is not initialised in this process; call "
            "torch.distributed.init_process_group first, or leave group out"
        )
    if not isinstance(group, torch.distributed.ProcessGroup):
        raise InputError(
            f"group must be a process group of torch.distributed, received {type(group).__name__}; pass for example "
            "torch.distributed.group.WORLD"
        )
    return DataParallel(Ranks(group, device))
