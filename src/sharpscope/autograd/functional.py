"""Evaluate a module with other tensors in place of its parameters and buffers, and put everything back.

``torch.func.functional_call`` does this too, but leaves the substitute behind where one submodule is held
under two names (seen in torch 2.13). Here each holder's own slot is saved once and restored as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def substituted(model: nn.Module, tensors: Mapping[int, Tensor]) -> Iterator[None]:
    """Hold ``tensors[id(t)]`` wherever the model holds the parameter or buffer t; restore on leaving.

    Tied parameters and shared submodules are one tensor held in several places; all of them see the
    substitute. What a forward pass writes to a substituted buffer, or reassigns, is dropped.
    """
    slots = [
        (held, name, tensor)
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for name, tensor in held.items()
        if tensor is not None
    ]
    recurrent = [(m, m._flat_weights) for m in model.modules() if isinstance(m, nn.RNNBase)]
    try:
        for held, name, tensor in slots:
            held[name] = tensors.get(id(tensor), tensor)  # type: ignore[assignment]
        for module, weights in recurrent:  # these keep a second list of their weights
            module._flat_weights = [w if w is None else tensors.get(id(w), w) for w in weights]
        yield
    finally:
        for held, name, tensor in slots:
            held[name] = tensor  # type: ignore[assignment]
        for module, weights in recurrent:
            module._flat_weights = weights
