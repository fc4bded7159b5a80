"""The activations that an option can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from sharpscope.models.options import Activation

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "elu": nn.ELU}


def activation_layer(name: Activation) -> nn.Module:
    """Return a new activation layer; never in place, so that double backward sees every value.

    >>> activation_layer("elu")
    ELU(alpha=1.0)
    """
    return _ACTIVATIONS[name]()
