"""The flat vector θ: which parameters are measured, in which order, and their named views.

A model's parameters are laid end to end in the order of ``named_parameters()``. Tied parameters appear
once; frozen ones (``requires_grad=False``) are not measured unless asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from sharpscope.errors import InputError, suggestion

Selection = str | Sequence[str] | Callable[[str, nn.Parameter], bool] | None
"""None: every trainable parameter. Else names or shell patterns ("features.*"), or a predicate (name, parameter)."""


@dataclass(frozen=True)
class Layout:
    """Order, names and shapes of the tensors that make up a flat vector.

    >>> layout = Layout(("weight", "bias"), (torch.Size([2, 2]), torch.Size([2])))
    >>> layout.size
    6
    >>> layout.split(torch.arange(6.0))["bias"]
    tensor([4., 5.])
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each tensor."""
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(self.sizes)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return named views into a flat vector (size,); raise `InputError` on any other shape."""
        if flat.shape != (self.size,):
            raise InputError(
                f"a flat parameter vector has shape ({self.size},) here, received {tuple(flat.shape)}; "
                "take it from Objective.flat() or join() one in the layout's order"
            )
        parts = flat.split(self.sizes)
        return {n: part.view(s) for n, s, part in zip(self.names, self.shapes, parts, strict=True)}

    def join(self, tensors: Iterable[Tensor]) -> Tensor:
        """Lay tensors given in the layout's order end to end: (size,)."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors])


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


def layout_of(parameters: dict[str, nn.Parameter]) -> Layout:
    """Return the layout of selected parameters."""
    return Layout(tuple(parameters), tuple(p.shape for p in parameters.values()))


def _some(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
