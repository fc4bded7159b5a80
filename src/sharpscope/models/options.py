"""What may be chosen for each architecture: names, types, ranges and defaults, declared once.

Kept free of torch, so that a study is checked before any tensor exists.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sharpscope.serialization import StrictConfig

Activation = Literal["relu", "gelu", "tanh", "elu"]
Width = Annotated[int, Field(ge=1)]
Multiplier = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Options(StrictConfig):
    """Root of all options: unknown names are refused, and so is a value of another type."""


class MLPOptions(Options):
    """Options of `sharpscope.models.mlp.MLP`.

    ``batch_norm``: ``"hidden"`` before every activation, ``"output"`` on the outputs. ``dropout`` follows
    every hidden activation. ``output_activation`` applies the activation to the outputs too, as hammoud2023's
    released code does.
    """

    hidden: Annotated[tuple[Width, ...], Field(strict=False)] = (512, 256, 128)  # a list in a study file
    activation: Activation = "relu"
    batch_norm: Literal["none", "hidden", "output"] = "none"
    dropout: Probability = 0.0
    output_activation: bool = False


class LeNet5Options(Options):
    """Options of `sharpscope.models.lenet5.LeNet5`: dropout, and padding of both convolutions."""

    dropout: Probability = 0.5
    padding: Annotated[int, Field(ge=0, le=2)] = 0


class VGG11Options(Options):
    """Options of `sharpscope.models.vgg11.VGG11`; ``width`` multiplies every width (64 … 512)."""

    batch_norm: bool = False
    activation: Activation = "relu"
    width: Multiplier = 1.0


class ResNetOptions(Options):
    """Options of `sharpscope.models.resnet.ResNet`; depth 6n + 2, ``width`` multiplies 16-32-64."""

    depth: Annotated[int, Field(ge=8, multiple_of=2)] = 56
    width: Multiplier = 1.0


class ResNet18Options(Options):
    """Options of `sharpscope.models.resnet18.ResNet18`; ``width`` multiplies 64 … 512."""

    batch_norm: bool = True
    width: Multiplier = 1.0


class FixupResNetOptions(Options):
    """Options of `sharpscope.models.fixup_resnet.FixupResNet`, as those of `ResNetOptions`."""

    depth: Annotated[int, Field(ge=8, multiple_of=2)] = 32
    width: Multiplier = 1.0


class DecoderOptions(Options):
    """Options of `sharpscope.models.decoder.Decoder`: width, a multiple of the heads; blocks; heads of each."""

    width: Width = 64
    layers: Annotated[int, Field(ge=1)] = 2
    heads: Width = 4

    @model_validator(mode="after")
    def _heads_of_one_width(self) -> DecoderOptions:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, received {self.width} and {self.heads}")
        return self


class GATOptions(Options):
    """Options of `sharpscope.models.gat.GAT`: channels and heads of the hidden layers, their number, dropout.

    ``dropout`` applies to every layer's input and to its attention coefficients.
    """

    hidden: Width = 8
    heads: Width = 1
    layers: Annotated[int, Field(ge=1)] = 2
    dropout: Probability = 0.6
    activation: Activation = "elu"
