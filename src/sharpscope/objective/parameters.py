"""The flat vector θ: which parameters are measured, in which order, and their named views.

A model's parameters are laid end to end in the order of ``named_parameters()``. Tied parameters appear
once; frozen ones (``requires_grad=False``) are not measured unless asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from sharpscope.autograd.sharded_vectors import ShardedVectors
from sharpscope.autograd.shards import Shards
from sharpscope.errors import InputError, suggestion

Selection = str | Sequence[str] | Callable[[str, nn.Parameter], bool] | None
"""None: every trainable parameter. Else names or shell patterns ("features.*"), or a predicate (name, parameter)."""


@dataclass(frozen=True)
class Layout:
    """Order, names and shapes of the tensors that make up a flat vector; ``shards`` where ranks hold parts of it.

    >>> layout = Layout(("weight", "bias"), (torch.Size([2, 2]), torch.Size([2])))
    >>> layout.size
    6
    >>> layout.split(torch.arange(6.0))["bias"]
    tensor([4., 5.])
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    shards: Shards | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each tensor."""
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(self.sizes)

    @property
    def most(self) -> int:
        """Number of a vector's entries in the process that holds most of them."""
        return self.size if self.shards is None else self.shards.most

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return named views into a flat vector (size,); raise `InputError` on any other shape."""
        if flat.shape != (self.size,):
            raise InputError(
                f"a flat parameter vector has shape ({self.size},) here, received {tuple(flat.shape)}; "
                "take it from Objective.flat() or join() one in the layout's order"
            )
        if self.shards is not None:
            own = self._own(flat).split(self.shards.own_sizes)
            each = [Shards(self.shards.ranks, (piece,)) for piece in self.shards.pieces]
            cut = zip(self.names, self.shapes, own, each, strict=True)
            return {n: ShardedVectors(part, shards, s) for n, s, part, shards in cut}
        parts = flat.split(self.sizes)
        return {n: part.view(s) for n, s, part in zip(self.names, self.shapes, parts, strict=True)}

    def join(self, tensors: Iterable[Tensor]) -> Tensor:
        """Lay tensors given in the layout's order end to end: (size,).

        Where the vector is sharded they are this rank's parts.
        """
        if self.shards is None:
            return torch.cat([tensor.reshape(-1) for tensor in tensors])
        own = [t.own if isinstance(t, ShardedVectors) else t.reshape(-1) for t in tensors]
        return ShardedVectors(torch.cat(own), self.shards)

    @property
    def own(self) -> Layout:
        """The layout of what this process holds, all of it but for sharded vectors."""
        if self.shards is None:
            return self
        return Layout(self.names, tuple(piece.own_shape for piece in self.shards.pieces))

    def held(self, flat: Tensor) -> dict[str, Tensor]:
        """Return named views into what this process holds of a flat vector (size,), as plain tensors."""
        if flat.shape != (self.size,):
            self.split(flat)  # which says what is wrong
        return self.own.split(self._own(flat))

    def _own(self, vectors: Tensor) -> Tensor:
        """Return this process's entries of vectors (..., size), a whole one being cut."""
        if isinstance(vectors, ShardedVectors):
            return vectors.own
        return vectors if self.shards is None else self.shards.taken(vectors)

    def cut(self, vectors: Tensor) -> Tensor:
        """Return vectors (..., size) as this layout's, a whole one being cut where they are sharded."""
        return self.vectors(self._own(vectors))

    def own_rows(self, vectors: Tensor) -> Tensor:
        """Return this process's entries (k, own size) of a vector or of rows (k, size)."""
        own = self._own(vectors)
        return own.reshape(-1, own.shape[-1])

    def vectors(self, own: Tensor) -> Tensor:
        """Return the vectors (..., size) of which this process holds entries (..., own size)."""
        return own if self.shards is None else ShardedVectors(own, self.shards)

    def drawn(self, draw: Callable[[int], Tensor]) -> Tensor:
        """Return a random vector (size,) from ``draw(n)``, which gives its next n entries; the same on all ranks."""
        return draw(self.size) if self.shards is None else self.vectors(self.shards.drawn(draw))

    def normal(self, draws: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return a vector of standard normal numbers (size,), on the CPU."""
        return self.drawn(lambda n: torch.randn(n, generator=draws, dtype=dtype))

    def normal_rows(self, count: int, draws: torch.Generator) -> Tensor:
        """Return vectors of standard normal numbers in float64 (count, size), on the CPU."""
        if self.shards is None:
            return torch.randn(count, self.size, generator=draws, dtype=torch.float64)
        return torch.stack([self.normal(draws, torch.float64) for _ in range(count)])

    def signs(self, draws: torch.Generator) -> Tensor:
        """Return a vector of random signs (size,) as int8, on the CPU."""
        return 2 * self.drawn(lambda n: torch.randint(0, 2, (n,), generator=draws, dtype=torch.int8)) - 1

    def zeros(self, *rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return vectors of zeros (*rows, size)."""
        return self.vectors(torch.zeros(*rows, self.own.size, dtype=dtype, device=device))


def select(model: nn.Module, selection: Selection = None) -> dict[str, nn.Parameter]:
    """Return the measured parameters by name, tied ones once, in ``named_parameters()`` order.

    Raises `InputError` when the selection matches nothing or names a parameter that does not exist.

    >>> list(select(nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1)), "0.*"))
    ['0.weight', '0.bias']
    """
    everything = dict(model.named_parameters())
    for name, parameter in everything.items():
        if isinstance(parameter, UninitializedParameter):
            raise InputError(
                f"parameters must be initialised, {name!r} of a lazy module is not; call the model on a batch first"
            )
    if selection is None:
        chosen = {name: p for name, p in everything.items() if p.requires_grad}
    elif callable(selection):
        chosen = {name: p for name, p in everything.items() if selection(name, p)}
    else:
        patterns = [selection] if isinstance(selection, str) else list(selection)
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in everything):
                raise InputError(
                    f"params must name parameters of the model, received {pattern!r}; "
                    f"{suggestion(pattern, everything)}it has {_some(list(everything))}"
                )
        chosen = {n: p for n, p in everything.items() if any(fnmatchcase(n, q) for q in patterns)}
    if not chosen:
        raise InputError(
            f"at least one parameter must be measured, the selection matched none of {len(everything)}; "
            "leave params=None for all trainable ones, or name frozen ones explicitly"
        )
    for name, parameter in chosen.items():
        if not parameter.is_floating_point():
            raise InputError(
                f"measured parameters must be real floating point, {name!r} is {parameter.dtype}; "
                "leave it out with params="
            )
    return chosen


def layout_of(parameters: Mapping[str, nn.Parameter]) -> Layout:
    """Return the layout of selected parameters."""
    return Layout(tuple(parameters), tuple(p.shape for p in parameters.values()))


def _some(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
