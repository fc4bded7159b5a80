"""Multilayer perceptron: patriarca2024, jastrzebski2018 (figure 1), kaur2022 (figure 8), hammoud2023 (H1)."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sharpscope.models.building_blocks import activation_layer

if TYPE_CHECKING:
    from sharpscope.models.options import MLPOptions


class MLP(nn.Module):
    """Linear – (batch normalisation) – activation – (dropout) blocks, then a linear layer.

    Inputs of any shape (n, ...) are flattened; outputs are (n, n_outputs).

    >>> from sharpscope.models.options import MLPOptions
    >>> model = MLP((10,), 1, MLPOptions(hidden=(64, 64)))
    >>> sum(p.numel() for p in model.parameters())
    4929
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, options: MLPOptions) -> None:
        super().__init__()
        widths = (prod(input_shape), *options.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(widths):
            layers.append(nn.Linear(fan_in, fan_out))
            if options.batch_norm == "hidden":
                layers.append(nn.BatchNorm1d(fan_out))
            layers.append(activation_layer(options.activation))
            if options.dropout:
                layers.append(nn.Dropout(options.dropout))
        layers.append(nn.Linear(widths[-1], n_outputs))
        if options.batch_norm == "output":
            layers.append(nn.BatchNorm1d(n_outputs))
        if options.output_activation:
            layers.append(activation_layer(options.activation))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (n, n_outputs) for inputs (n, ...)."""
        outputs: Tensor = self.layers(inputs)
        return outputs
