"""Parameters of which each rank holds a part, gathered where a module reads them, with exact second derivatives.

The hooks that torch gathers parameters with refuse a double backward, or lose terms of it. Here a gather is a
function whose backward is a scatter of the sum over ranks, and the reverse, so that both can be differentiated again.
What is gathered is not kept for the backward pass: in its place the graph holds a note of what to gather again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.autograd.ranks import Ranks
from sharpscope.autograd.shards import Piece

Read = Callable[[Tensor], Tensor]
"""Gives what a module sees, from the part of a parameter that this rank holds."""


def _apply(function: Any, *arguments: Any) -> Any:
    return function.apply(*arguments)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, piece: Piece, ranks: Ranks, summed: bool) -> Tensor:
        ctx.how = piece, ranks, summed
        return piece.gathered(own, ranks)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        return _apply(_Scatter, slope, *ctx.how), None, None, None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: Tensor, piece: Piece, ranks: Ranks, summed: bool) -> Tensor:
        ctx.how = piece, ranks, summed
        if summed:
            return piece.scattered(whole, ranks)
        return piece.taken(whole, ranks.rank).clone().view(piece.own_shape)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        return _apply(_Gather, slope, *ctx.how), None, None, None


class _WithValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, value: float) -> Tensor:
        return own.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        return slope, None


def with_value(own: Tensor, value: float) -> Tensor:
    """Return a scalar of this value with the gradient of ``own``; own + (value − own) would round as ``own`` does."""
    whole: Tensor = _apply(_WithValue, own, value)
    return whole


def gather(own: Tensor, piece: Piece, ranks: Ranks, summed: bool) -> Tensor:
    """Return a whole parameter from the part that each rank holds, differentiable as often as one likes.

    ``summed`` says that every rank computes a part of the loss, so that gradients are summed over ranks; else all
    compute the same.
    """
    whole: Tensor = _apply(_Gather, own, piece, ranks, summed)
    return whole


@dataclass
class _Note:
    """Where to find again what a graph needs of a gathered parameter."""

    own: Tensor
    piece: Piece
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


class GatheredAgain:
    """Keeps gathered parameters out of graphs, which gather them again when they need them.

    One parameter is remembered, since several operations in a row need the same.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._known: dict[int, tuple[weakref.ref[Tensor], Tensor, Piece]] = {}
        self._last: tuple[Tensor, Tensor] | None = None

    def gather(self, own: Tensor, piece: Piece) -> Tensor:
        """Return a whole parameter as `gather` does, gradients summed over ranks."""
        whole = gather(own, piece, self.ranks, summed=True)
        self._known[whole.untyped_storage().data_ptr()] = weakref.ref(whole), own, piece
        return whole

    @contextmanager
    def saving_notes(self) -> Iterator[None]:
        """Build graphs that hold notes in place of gathered parameters."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack):
            yield

    def _pack(self, tensor: Tensor) -> Tensor | _Note:
        pointer = tensor.untyped_storage().data_ptr() if tensor.numel() else 0
        known = self._known.get(pointer)
        if known is None:
            return tensor.detach()  # a graph that held its own result would never be freed
        whole, own, piece = known
        alive = whole()
        if alive is None or alive.untyped_storage().data_ptr() != pointer or alive.dtype != tensor.dtype:
            del self._known[pointer]  # another tensor lies there now, or a view has outlived what it views
            return tensor.detach()
        return _Note(own, piece, tensor.size(), tensor.stride(), int(tensor.storage_offset()))

    def _unpack(self, saved: Tensor | _Note) -> Tensor:
        if isinstance(saved, Tensor):
            return saved
        if self._last is None or self._last[0] is not saved.own:
            self._last = None
            self._last = saved.own, saved.piece.gathered(saved.own.detach(), self.ranks)
        return self._last[1].as_strided(saved.size, saved.stride, saved.offset)


class ReadParameters(dict[str, Any]):
    """A module's parameters, of which some are put together when they are read."""

    def __init__(self, held: Mapping[str, Any], reads: Mapping[int, Read]) -> None:
        super().__init__(held)
        self._reads = reads

    def __getitem__(self, name: str) -> Any:
        """Return a parameter as a module sees it."""
        value = super().__getitem__(name)
        read = self._reads.get(id(value))
        return value if read is None else read(value)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a parameter as a module sees it, if there is one of this name."""
        try:
            return self[name]
        except KeyError:
            return default

    def items(self) -> Any:
        """Yield the names and the parameters as a module sees them."""
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        """Yield the parameters as a module sees them."""
        return [self[name] for name in self]


def put_together_when_read(model: nn.Module, reads: Mapping[int, Read]) -> None:
    """Let a model's modules see what ``reads[id(t)]`` makes of each tensor t that they hold.

    Until the model's attributes are restored (`sharpscope.autograd.module_state.SavedState`).
    """
    for module in model.modules():
        held = module._parameters
        if any(id(tensor) in reads for tensor in held.values()):
            vars(module)["_parameters"] = ReadParameters(held, reads)
        if isinstance(module, nn.RNNBase):
            module._flat_weights = [
                reads[id(w)](w) if w is not None and id(w) in reads else w for w in module._flat_weights
            ]


HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def without_hooks_of(model: nn.Module, package: str) -> None:
    """Leave out the hooks that a package has put on a model's modules, until the attributes are restored."""
    for module in model.modules():
        for kind in HOOKS:
            hooks = vars(module)[kind]
            kept = {key: hook for key, hook in hooks.items() if not _of(hook, package)}
            if len(kept) < len(hooks):
                vars(module)[kind] = type(hooks)(kept)


def _of(hook: Any, package: str) -> bool:
    return str(getattr(hook, "__module__", None) or type(hook).__module__).startswith(package)


class _Placed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, own: Tensor, place: Any, mesh: Any, placements: Any, shape: Any, stride: Any
    ) -> Any:
        from torch.distributed.tensor import Replicate

        ctx.mesh = mesh
        ctx.placements = tuple(Replicate() if p.is_partial() else p for p in placements)
        return place(own.detach(), mesh, placements, run_check=False, shape=shape, stride=stride)

    @staticmethod
    def backward(ctx: Any, slope: Any) -> Any:
        return slope.redistribute(ctx.mesh, ctx.placements).to_local(), None, None, None, None, None


@contextmanager
def differentiable_placement() -> Iterator[None]:
    """Let tensors become distributed ones in a way that can be differentiated twice.

    torch's ``DTensor.from_local`` redistributes gradients outside the graph in its backward pass, so that second
    derivatives lack terms (seen in torch 2.13: a product of a tensor-parallel perceptron was off by its own size).
    """
    from torch.distributed import tensor as torch_tensor

    distributed: Any = torch_tensor.DTensor
    original = distributed.from_local

    def from_local(
        own: Tensor,
        device_mesh: Any = None,
        placements: Any = None,
        *,
        run_check: bool = False,
        shape: Any = None,
        stride: Any = None,
        grad_placements: Any = None,
    ) -> Any:
        """Stand in for ``DTensor.from_local``."""
        if device_mesh is None or placements is None or grad_placements is not None:
            options = {"run_check": run_check, "shape": shape, "stride": stride}
            return original(own, device_mesh, placements, grad_placements=grad_placements, **options)
        return _apply(_Placed, own, original, device_mesh, tuple(placements), shape, stride)

    distributed.from_local = staticmethod(from_local)
    try:
        yield
    finally:
        distributed.from_local = staticmethod(original)
