"""Models whose parameters are sharded over ranks: those of torch's ``fully_shard`` (FSDP2), and tensor-parallel ones.

Vectors are cut as the parameters are (`sharpscope.autograd.shards`), so that no rank holds a whole one. A parameter
that every rank has whole is cut into even ranges.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from sharpscope.autograd.gathering import (
    GatheredAgain,
    Read,
    differentiable_placement,
    gather,
    put_together_when_read,
    with_value,
    without_hooks_of,
)
from sharpscope.autograd.ranks import Ranks, is_of_collective
from sharpscope.autograd.shards import Piece, even_piece, piece_of
from sharpscope.errors import InputError
from sharpscope.objective.batches import FixedBatches, first_rows
from sharpscope.objective.distribution import DataParallel, Mean, Sums
from sharpscope.objective.mean_loss import checked_loss

if TYPE_CHECKING:
    from sharpscope.objective.measured_function import MeasuredFunction

T = TypeVar("T")


class _InStep(DataParallel):
    """Ranks that exchange parameters or activations while they evaluate: what they do must be the same on all."""

    in_step = True

    def __init__(self, ranks: Ranks, pieces: Mapping[str, Piece]) -> None:
        super().__init__(ranks, pieces)
        self._pieces = dict(pieces)

    def add_up(self, function: Callable[[], Sums], count: int) -> tuple[Tensor | None, Sequence[float]]:  # type: ignore[override]
        """Return what ``function`` returns: every chunk's values are already those of all ranks."""
        try:
            return function()
        except RuntimeError as error:  # of a collective in the model's own layers
            if is_of_collective(error):
                raise self.ranks.lost(error) from error
            raise

    def check(self, function: Callable[[], T], evaluator: MeasuredFunction) -> T | None:
        """Return a check of the first samples, which are the same on all ranks."""
        return function()

    def rows_of_all(self, function: Callable[[], list[Tensor] | None], none: Tensor) -> Tensor | None:
        """Return the rows that ``function`` gives of each rank's samples, in order; None where there are none."""
        parts = function()
        return None if parts is None else self.ranks.joined(torch.cat([none, *parts]))

    def agreed(self, decision: bool) -> bool:
        """Return whether all ranks decide so."""
        return all(yes for (yes,) in self.ranks.each([float(decision)]))

    def own(self, name: str, parameter: Tensor) -> Tensor:
        """Return what this rank holds of a parameter."""
        local = _local(parameter.detach())
        piece = self._pieces[name]
        if local.shape == piece.own_shape and _sharded_dim(parameter) is not None:
            return local
        return piece.taken(local, self.ranks.rank).view(piece.own_shape)  # also where torch holds it gathered


class FullySharded(_InStep):
    """Every rank holds a part of each parameter, as ``fully_shard`` cuts them, and a part of the data.

    A parameter is gathered where a module reads it, and again where a graph needs it. Ranks evaluate chunk by chunk
    in step: chunk i of the data is what is chunk i on each rank. A rank that has fewer evaluates others for nothing.
    """

    def __init__(self, ranks: Ranks, pieces: Mapping[str, Piece]) -> None:
        super().__init__(ranks, pieces)
        self._gathered = GatheredAgain(ranks)

    @property
    def protocol(self) -> dict[str, object]:
        """What a protocol says of it."""
        return {"ranks": f"parameters and data sharded over {self.ranks.size} ranks"}

    @contextmanager
    def measuring(self, model: nn.Module) -> Iterator[None]:
        """Evaluate without torch's own hooks, whose gathers have no double backward."""
        without_hooks_of(model, "torch.distributed")
        with self._gathered.saving_notes():
            yield

    def hold(self, model: nn.Module, own: Mapping[str, Tensor]) -> None:
        """Gather parameters when modules read them."""
        reads: dict[int, Read] = {}
        for name, tensor in own.items():
            piece = self._pieces[name]
            reads[id(tensor)] = lambda part, piece=piece: self._gathered.gather(part, piece)  # type: ignore[misc]
        put_together_when_read(model, reads)

    def shared(self, mean: Mean, idle: bool) -> Mean:
        """Return the mean loss of a chunk over all ranks' parts of it."""
        return _SharedMean(mean, self.ranks, idle)

    def common_batch(self, batches: FixedBatches, rows: int) -> Any:
        """Return the first rows of the first batch of the first rank that has one."""
        own = first_rows(next(iter(batches)), rows) if batches.count else None
        return self.ranks.from_first(own, batches.count > 0)


class _SharedMean:
    """The mean loss of a chunk of which each rank has a part: Σ n_r ℓ_r / Σ n_r.

    Its value is that mean on every rank, to the bit: what follows from it, such as whether a step is taken, must be
    the same on all. Its gradient on a rank is that of n_r ℓ_r / Σ n_r, which the scatter of gathered parameters sums
    over ranks.
    """

    def __init__(self, mean: Mean, ranks: Ranks, idle: bool) -> None:
        self.mean, self.ranks, self.targets = mean, ranks, mean.targets
        own = 0.0 if idle else mean.weight
        self.weight = sum(n for (n,) in ranks.each([own]))
        self.share = own / self.weight if self.weight else 0.0

    def __call__(self, outputs: Any) -> Tensor:
        own = self.share * checked_loss(self.mean(outputs))
        whole = sum(part for (part,) in self.ranks.each([float(own.detach())]))
        return with_value(own, whole)


class TensorParallel(_InStep):
    """Every rank holds a part of each parameter and computes with it; all have the same data.

    The model's own layers exchange activations. Parameters that are not cut, which all ranks hold alike, count once.
    """

    splits_data = False

    def __init__(self, ranks: Ranks, pieces: Mapping[str, Piece], model: nn.Module) -> None:
        super().__init__(ranks, pieces)
        self._placed = {
            name: (p.device_mesh, tuple(p.placements), p.shape, p.stride())
            for name, p in _distributed(model).items()
        }

    @property
    def protocol(self) -> dict[str, object]:
        """What a protocol says of it."""
        return {"ranks": f"parameters sharded over {self.ranks.size} ranks"}

    def measuring(self, model: nn.Module) -> AbstractContextManager[None]:
        """Evaluate with layers whose exchange can be differentiated twice."""
        return differentiable_placement()

    def hold(self, model: nn.Module, own: Mapping[str, Tensor]) -> None:
        """Let modules see distributed parameters, as they were found."""
        put_together_when_read(model, {id(tensor): self._read(name) for name, tensor in own.items()})

    def _read(self, name: str) -> Read:
        piece, placed = self._pieces[name], self._placed.get(name)

        def read(own: Tensor) -> Tensor:
            from torch.distributed.tensor import DTensor

            if placed is None:
                return gather(own, piece, self.ranks, summed=False)
            mesh, placements, shape, stride = placed
            if placements[0].is_replicate():
                own = gather(own, piece, self.ranks, summed=False)
            found: Tensor = DTensor.from_local(
                own, mesh, placements, run_check=False, shape=shape, stride=stride
            )
            return found

        return read

    def require_agreement(self, evaluator: MeasuredFunction) -> None:
        """Refuse ranks that hold other data than the others, or measure otherwise."""
        super().require_agreement(evaluator)
        self.ranks.require_same(
            "data",
            evaluator.batches.digest,
            "ranks of a tensor-parallel model evaluate the same samples together",
        )

    def counts(self, *own: float) -> list[list[float]]:
        """Return numbers of samples: all ranks have the same."""
        return [[number] for number in own]

    def split(self, indices: Tensor, counts: Sequence[float]) -> tuple[Tensor, list[float]]:
        """Return all indices as this rank's."""
        return torch.ones(len(indices), dtype=torch.bool), [float(len(indices))]

    def first(self, counts: Sequence[float]) -> int:
        """Return 0: every rank has the first sample."""
        return 0

    def rows_of_all(self, function: Callable[[], list[Tensor] | None], none: Tensor) -> None:
        """Return None: a layer's inputs on one rank are not all of a sample's."""

    def digest(self, own: str) -> str:
        """Return the data's digest, which is the same on all ranks."""
        return own


def _distributed(model: nn.Module) -> dict[str, Any]:
    """Return the parameters that know what other ranks hold of them."""
    return {name: p for name, p in model.named_parameters() if hasattr(p, "device_mesh")}


def _local(tensor: Any) -> Tensor:
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local


def _sharded_dim(parameter: Any) -> int | None:
    """Return the dimension along which a parameter is cut, None where every rank has all of it."""
    cut = parameter.placements[0] if hasattr(parameter, "placements") else None
    return cut.dim if cut is not None and cut.is_shard() else None


def sharded_model(model: nn.Module, group: Any, device: torch.device) -> _InStep | None:
    """Return who holds what of a model whose parameters are sharded; None for one with whole parameters."""
    if "torch.distributed.fsdp" not in sys.modules and not _distributed(model):
        return None
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    modules = list(model.modules())
    if any(isinstance(m, FullyShardedDataParallel) for m in modules) or any(
        hasattr(p, "_fsdp_flattened") for p in model.parameters()
    ):
        raise InputError(
            "parameters must be sharded one by one, received a model in FullyShardedDataParallel (FSDP1), which "
            "flattens them; shard it with torch.distributed.fsdp.fully_shard (FSDP2), or measure a copy that is "
            "loaded from a full state dict"
        )
    fully = [m for m in modules if isinstance(m, FSDPModule)]
    for module in fully:
        module.reshard()  # a forward pass may have left parameters gathered
    cut = _distributed(model)
    if not cut:
        return None
    meshes = {p.device_mesh for p in cut.values()}
    mesh = next(iter(meshes))
    if len(meshes) > 1 or mesh.ndim != 1 or any(p.placements[0].is_partial() for p in cut.values()):
        raise InputError(
            "parameters must be sharded over one list of ranks, received a device mesh of several dimensions or "
            "several meshes; shard them over one dimension, or measure a copy that is loaded from a full state dict"
        )
    ranks = Ranks(mesh.get_group(), device)
    if group is not None and Ranks(group, device).size != ranks.size:
        raise InputError(
            f"group must be the {ranks.size} ranks that the model is sharded over, received "
            f"{Ranks(group, device).size}; leave it out"
        )
    if any(getattr(m, "max_norm", None) is not None for m in modules):
        raise InputError("a look-up table with max_norm cannot be sharded; set max_norm=None")
    pieces = _pieces(model, ranks)
    return FullySharded(ranks, pieces) if fully else TensorParallel(ranks, pieces, model)


def _pieces(model: nn.Module, ranks: Ranks) -> dict[str, Piece]:
    """Return how every parameter of a model is cut."""
    named = [(name, p, _sharded_dim(p)) for name, p in model.named_parameters()]
    every = ranks.each([0.0 if dim is None else float(_local(p).shape[dim]) for _, p, dim in named])
    found = {}
    for (name, p, dim), column in zip(named, zip(*every, strict=True), strict=True):
        if dim is None:
            found[name] = even_piece(p.shape, ranks)
        else:
            found[name] = piece_of(p.shape, dim, [int(n) for n in column], _local(p).shape)
    return found
