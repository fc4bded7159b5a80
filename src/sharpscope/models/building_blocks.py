"""What several architectures share: activations, the shape of images, widths and initial weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from sharpscope.errors import InputError

if TYPE_CHECKING:
    from sharpscope.models.options import Activation

Initialisation = Literal["default", "xavier", "he"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "elu": nn.ELU}

# Scales and shifts of normalisation layers are no weights in this sense; lookups have no fan-in.
_LEFT_ALONE = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding)


def activation_layer(name: Activation) -> nn.Module:
    """Return a new activation layer; never in place, so that double backward sees every value.

    >>> activation_layer("elu")
    ELU(alpha=1.0)
    """
    return _ACTIVATIONS[name]()


def image_shape(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """Return (channels, height, width), or raise InputError when the samples are no images.

    >>> image_shape((3, 32, 32), "VGG-11")
    (3, 32, 32)
    """
    if len(input_shape) != 3:
        raise InputError(
            f"{model} takes images (channels, height, width), received samples of shape {input_shape}; "
            "use a model for these inputs, such as mlp."
        )
    return input_shape[0], input_shape[1], input_shape[2]


def scaled(width: int, multiplier: float) -> int:
    """Return a number of channels times a width multiplier, rounded, at least 1.

    >>> scaled(64, 0.25), scaled(3, 0.1)
    (16, 1)
    """
    return max(1, round(width * multiplier))


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
