"""Small stand-ins with the shapes of the real data sets."""

from __future__ import annotations

import pytest
import torch

from sharpscope.data import Dataset, Graph, Split

SHAPES = {"digits": (1, 8, 8), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32), "abalone": (10,)}


def stand_in(name: str, samples: int = 5) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    if name == "cora":
        nodes = Split(torch.arange(samples), torch.arange(samples) % 7)
        edges = torch.randint(0, 40, (2, 150), generator=generator)
        words = torch.randint(0, 2, (40, 1433), generator=generator).float()
        return Dataset("cora", "classification", 7, (), nodes, None, nodes, "none", graph=Graph(words, edges))
    if name == "python_manual":
        windows = torch.randint(0, 96, (samples, 65), generator=generator)
        text = Split(windows[:, :-1], windows[:, 1:])
        return Dataset(name, "classification", 96, (64,), text, None, text, "none")
    inputs = torch.randn((samples, *SHAPES[name]), generator=generator)
    if name == "abalone":
        targets, task, n_outputs = torch.randn((samples, 1), generator=generator), "regression", 1
    else:
        targets, task, n_outputs = torch.arange(samples) % 10, "classification", 10
    split = Split(inputs, targets)
    return Dataset(name, task, n_outputs, SHAPES[name], split, None, split, "none")  # type: ignore[arg-type]


@pytest.fixture
def data():
    return stand_in
