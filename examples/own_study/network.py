"""A network of one's own: any function that returns a torch.nn.Module.

A study names it as ``network:build`` and is run from this folder. Options of the study arrive as keyword arguments;
an argument called ``dataset`` receives the loaded data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from sharpscope.data import Dataset


def build(dataset: Dataset, width: int = 24) -> nn.Module:
    """Return two hidden layers with a smooth activation, for a table with any number of columns and classes."""
    (inputs,) = dataset.input_shape
    return nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(),
        nn.Linear(width, width), nn.Tanh(),
        nn.Linear(width, dataset.n_outputs),
    )  # fmt: skip
