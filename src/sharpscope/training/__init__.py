"""Training runs: configuration, loop, stopping rules, history and checkpoints.

The configuration loads without torch; the rest brings it in when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sharpscope.training.config import (
    OptimizerConfig,
    PlateauConfig,
    RunConfig,
    ScheduleConfig,
    StopConfig,
    weight_seed,
)

if TYPE_CHECKING:
    from sharpscope.training.checkpoint import load_checkpoint, read_metadata, save_checkpoint
    from sharpscope.training.evaluation import evaluate
    from sharpscope.training.history import TrainingOutcome
    from sharpscope.training.loop import train
    from sharpscope.training.losses import loss_function

__all__ = [
    "OptimizerConfig",
    "PlateauConfig",
    "RunConfig",
    "ScheduleConfig",
    "StopConfig",
    "TrainingOutcome",
    "evaluate",
    "load_checkpoint",
    "loss_function",
    "read_metadata",
    "save_checkpoint",
    "train",
    "weight_seed",
]

_HOMES = {
    "TrainingOutcome": "history",
    "evaluate": "evaluation",
    "load_checkpoint": "checkpoint",
    "loss_function": "losses",
    "read_metadata": "checkpoint",
    "save_checkpoint": "checkpoint",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
