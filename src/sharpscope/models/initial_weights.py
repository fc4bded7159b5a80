"""Initial weights: PyTorch's default, Xavier uniform or He normal."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Initialisation = Literal["default", "xavier", "he"]

# Scales and shifts of normalisation layers are no weights in this sense; lookups have no fan-in.
_LEFT_ALONE = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding)


def initialise(model: nn.Module, initialisation: Initialisation) -> None:
    """Draw the weights of every linear and convolutional layer from the global generator; biases become zero.

    - ``"xavier"``: uniform on ±√(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010).
    - ``"he"``: normal with variance 2 / fan_in (He et al., 2015).
    - ``"default"``: whatever the layers' constructors drew; nothing is touched.

    A layer counts when it holds a matrix or a kernel under the name ``weight``; normalisation layers and
    embeddings keep theirs. A weight shared between layers is drawn once.
    """
    if initialisation == "default":
        return
    draw = _xavier if initialisation == "xavier" else _he
    done: set[int] = set()
    for layer in model.modules():
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if not isinstance(weight, nn.Parameter) or weight.dim() < 2 or isinstance(layer, _LEFT_ALONE):
            continue
        if id(weight) not in done:
            done.add(id(weight))
            draw(weight)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def _xavier(weight: torch.Tensor) -> torch.Tensor:
    return nn.init.xavier_uniform_(weight)


def _he(weight: torch.Tensor) -> torch.Tensor:
    return nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
