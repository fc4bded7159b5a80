"""Who holds what of a measured function, where several processes measure it together.

Data parallel: every rank has the whole model and its own part of the data, L(θ) is the mean over all parts. The parts
are numbered one after another in the order of the ranks, as if they were one data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from sharpscope.autograd.ranks import Ranks, shares
from sharpscope.autograd.shards import Piece, Shards
from sharpscope.errors import InputError, PartOfDataError
from sharpscope.objective.batches import FixedBatches, update_with_tensor

if TYPE_CHECKING:
    from sharpscope.objective.measured_function import MeasuredFunction

T = TypeVar("T")
Sums = tuple[Tensor | None, tuple[float, ...]]


class Mean(Protocol):
    """The mean loss of a chunk as a function of the model's outputs, and how many samples it counts."""

    weight: float
    targets: Any

    def __call__(self, outputs: Any) -> Tensor:
        """Return the mean loss, a scalar."""


class DataParallel:
    """Every rank has the whole model and a part of the data, which may be no data at all.

    Losses, gradients and products are evaluated on each rank's own part and added up with one collective of the
    vector. Random draws come from seeds, so that they are the same on all ranks without any collective.
    """

    splits_data = True
    """Whether each rank holds its own part of the data."""

    in_step = False
    """Whether ranks exchange parameters while they evaluate, so that all must evaluate the same at the same time."""

    def __init__(self, ranks: Ranks, pieces: Mapping[str, Piece] | None = None) -> None:
        self.ranks, self.pieces = ranks, pieces

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
        layout = evaluator.layout
        how = (layout.names, layout.shapes, evaluator.mode, str(evaluator.dtype))
        digest = hashlib.sha256(repr((how, evaluator.dropout, evaluator.dropout_seed)).encode())
        for tensor in [*evaluator.model.parameters(), *evaluator.model.buffers()]:
            if not hasattr(tensor, "to_local"):
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

    # -- what sharded models do otherwise, see sharpscope.objective.sharded_models --------------------

    def shards(self, names: Iterable[str]) -> Shards | None:
        """Return how a flat vector of some parameters is cut; None where every rank holds all of it."""
        return None if self.pieces is None else Shards(self.ranks, tuple(self.pieces[name] for name in names))

    def agreed(self, decision: bool) -> bool:
        """Return a decision that all ranks must take alike where they work in step."""
        return decision

    def own(self, name: str, parameter: Tensor) -> Tensor:
        """Return what this rank holds of a parameter."""
        return parameter.detach()

    def measuring(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context for evaluating the model."""
        return nullcontext()

    def hold(self, model: nn.Module, own: Mapping[str, Tensor]) -> None:
        """Let the model's modules see whole parameters where they hold parts."""

    def shared(self, mean: Mean, idle: bool) -> Mean:
        """Return the mean loss of a chunk from that of this rank's part of it; ``idle``: of nothing."""
        return mean

    def common_batch(self, batches: FixedBatches, rows: int) -> Any:
        """Return a batch that all ranks hold alike, its first rows; None where none is needed."""
        return None

    def digest(self, own: str) -> str:
        """Return a digest of all ranks' data from that of this rank's."""
        return self.ranks.digest(own)


def refuse_parts(distribution: DataParallel | None, what: str) -> None:
    """Refuse to look at single samples where other ranks hold some of them."""
    if distribution is not None and distribution.splits_data:
        raise PartOfDataError(
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
