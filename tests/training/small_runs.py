"""Small synthetic runs: uneven last batches, unequal classes, dropout and batch normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sharpscope.data import Dataset, Split
from sharpscope.seeding import generator
from sharpscope.training import RunConfig


def classification(n: int = 53, validation: bool = True) -> Dataset:
    """Three unequal classes in six dimensions, linearly separable up to some noise."""

    def split(name: str, size: int) -> Split:
        inputs = torch.randn(size, 6, generator=generator("small", name, size))
        noise = torch.randn(size, generator=generator("noise", name, size))
        score = inputs[:, 0] - 0.5 * inputs[:, 1] + 0.3 * noise
        return Split(inputs, (score > 0).long() + (score > 1.2).long())

    return Dataset(
        name="digits",
        task="classification",
        n_outputs=3,
        input_shape=(6,),
        train=split("train", n),
        validation=split("validation", 11) if validation else None,
        test=split("test", 17),
        standardisation="none",
    )


def regression(n: int = 29) -> Dataset:
    """A noisy linear function of four inputs, targets (n, 1)."""

    def split(name: str, size: int) -> Split:
        inputs = torch.randn(size, 4, generator=generator("regression", name, size))
        return Split(inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.0], [0.5]]) + 3.0)

    return Dataset("abalone", "regression", 1, (4,), split("train", n), None, split("test", 13), "none")


def perceptron(seed: int = 0, inputs: int = 6, outputs: int = 3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def noisy_network(seed: int = 0) -> nn.Sequential:
    """Dropout twice and batch normalisation: everything that has a state or draws at random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(6, 9),
            nn.BatchNorm1d(9),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(9, 7),
            nn.Dropout(0.2),
            nn.ReLU(),
            nn.Linear(7, 3),
        )


def config(**changes: Any) -> RunConfig:
    base: dict[str, Any] = {
        "data": "digits",
        "model": "mlp",
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 8,
        "stop": {"epochs": 3},
    }
    return RunConfig.model_validate({**base, **changes})


def bits(model: nn.Module) -> dict[str, bytes]:
    """Every weight and buffer, to the bit."""
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history without the seconds, which no two runs share."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]
