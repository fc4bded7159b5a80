"""Training one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sharpscope.training.history import Row
from sharpscope.training.outcome import TrainingOutcome
from sharpscope.training.together import Group

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sharpscope.data import Dataset
    from sharpscope.training.config import RunConfig


def train(
    config: RunConfig,
    dataset: Dataset,
    model: nn.Module,
    *,
    workspace: Path | None = None,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[Row], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint_every_s: float = 5.0,
) -> TrainingOutcome:
    """Train a model, in place, until a stopping rule holds, it diverges, or it is asked to stop.

    The model comes with its initial weights (see `weight_seed`); it is moved to the device and to the run's
    dtype. A step is one closure handed to the optimizer: clear the gradients, mean loss of the batch, backward.
    The order of the samples and the dropout of every step follow from the run's identifier, so the same
    configuration and initial weights give the same bits on the same machine with the same number of threads,
    alone or in company (`train_together`). Steps are carried out by the fastest way that gives those bits, see
    `sharpscope.training.engines`.

    With a `workspace`, progress is saved there every `checkpoint_every_s` seconds and when `should_stop`
    (asked before every step) says so; a later call with the same workspace goes on from there, in the middle of
    an epoch as well, to the same bits as if it had never stopped. `on_epoch` receives each new row of the
    history.

    A loss or weight that becomes NaN or infinite ends the run as ``diverged``: an outcome, not an exception.
    Raises `InputError` where configuration, data and model do not fit, `CheckpointError` for a workspace that
    holds another run or cannot be read.
    """
    group = Group([config], dataset, [model], [workspace], device, checkpoint_every_s)
    tell = on_epoch or _unheard
    (outcome,) = group.train(lambda number, row: tell(row), should_stop or _never)
    return outcome


def _unheard(row: Row) -> None:
    """Tell nobody."""


def _never() -> bool:
    return False
