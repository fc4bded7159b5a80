"""Contexts that leave no trace: random state, train/eval flags."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

_RUNNING_STATISTICS = "running_mean"
"""A module that carries this attribute normalises by batch statistics when training."""


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore Python's, NumPy's and torch's global random states (all devices) on leaving, also on error."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def declared_mode(model: nn.Module, mode: str, dropout: bool) -> Iterator[None]:
    """Put every submodule in the declared mode and restore each one's own flag on leaving.

    ``eval``: everything in eval mode. ``train``: batch normalisation (any module with running statistics)
    on batch statistics, everything else in eval mode unless ``dropout`` is true, then everything trains.
    The flags are set directly, since a model may override ``train()``.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = mode == "train" and (dropout or hasattr(module, _RUNNING_STATISTICS))
        yield
    finally:
        for module, flag in flags:
            module.training = flag
