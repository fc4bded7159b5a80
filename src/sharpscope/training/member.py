"""One run in flight: its model and optimizer, where it stands, and what it has recorded."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from sharpscope.training.history import METRICS, Row, evaluation, recorded
from sharpscope.training.losses import Loss, loss_function
from sharpscope.training.minibatches import Minibatches
from sharpscope.training.optimizers import build_optimizer
from sharpscope.training.outcome import TrainingOutcome
from sharpscope.training.preconditions import check, resolved_loss
from sharpscope.training.progress import Progress, Workspace
from sharpscope.training.reproducible import seed_step
from sharpscope.training.schedules import learning_rate
from sharpscope.training.stopping import stop_reason

if TYPE_CHECKING:
    from torch import nn

    from sharpscope.data import Dataset
    from sharpscope.training.config import RunConfig

Position = tuple[int, int]
"""Epochs completed and steps taken in the one after them."""


class Member:
    """One run in flight, alone or among others that train at the same time.

    Nothing here knows of those others: what a member computes, draws and decides follows from its own
    configuration. ``loss_sum`` (float64) and ``correct`` (int64) are scalars on the device that whoever carries out
    a step adds to; they belong to the epoch that `begin` opened.
    """

    batches: Minibatches

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        model: nn.Module,
        device: torch.device,
        folder: Path | None,
        checkpoint_every_s: float,
    ) -> None:
        self.config, self.dataset, self.model, self.device = config, dataset, model, device
        self.run_id = config.run_id()
        seed_step(self.run_id, 0, 0, device)  # should the model draw when it is looked at
        check(config, dataset, model)
        self.loss: Loss = loss_function(resolved_loss(config, dataset))
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(config.optimizer, trainable, model)
        self.outcome: TrainingOutcome | None = None
        self.progress, self.workspace = Progress(), None
        if folder is not None:
            self.workspace = Workspace(folder, self.run_id, checkpoint_every_s)
            self.progress = self.workspace.resume(model, self.optimizer)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self._end_where_a_rule_holds()

    @property
    def position(self) -> Position:
        """Where it stands."""
        return len(self.progress.history), self.progress.step

    @property
    def epoch(self) -> int:
        """The number of the epoch being trained, counted from 1."""
        return len(self.progress.history) + 1

    def begin(self) -> None:
        """Open the current epoch, or go on with it."""
        config, progress = self.config, self.progress
        self.lr = learning_rate(config.schedule, config.optimizer.lr, self.epoch, config.stop.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.batches = Minibatches(self.dataset.train, config, self.run_id, self.epoch, self.device)
        self.loss_sum.fill_(progress.loss_sum)
        self.correct.fill_(progress.correct)
        self.model.train()

    def note(self, step: int, seconds: float) -> None:
        """Note that `step` steps of the epoch are taken, the last of them in so many `seconds` more."""
        progress = self.progress
        progress.step, progress.loss_sum = step, self.loss_sum.item()
        progress.correct, progress.seconds = int(self.correct.item()), progress.seconds + seconds

    def due(self) -> bool:
        """Say whether it is time to save again."""
        return self.workspace is not None and self.workspace.due()

    def save(self) -> None:
        """Save where the run stands, as noted."""
        if self.workspace is not None:
            self.workspace.save(self.model, self.optimizer, self.progress)

    def close(self) -> Row:
        """Evaluate, record the epoch and see whether the run ends with it."""
        begin = time.perf_counter()
        row = dict.fromkeys(("epoch", "lr", "epoch_loss", "epoch_accuracy", *METRICS, "seconds"))
        row |= {"epoch": self.epoch, "lr": self.lr, "epoch_loss": self.loss_sum.item() / self.batches.samples}
        if self.dataset.task == "classification" and self.loss_sum.isfinite():
            row["epoch_accuracy"] = self.correct.item() / self.batches.samples
        trouble = self._unfinite()
        if trouble is None:
            row |= evaluation(self.model, self.dataset, self.loss)
            if recorded(row) != row:
                trouble = "non_finite_loss"
        row["seconds"] = self.progress.seconds + time.perf_counter() - begin
        row = recorded(row)
        history = self.progress.history
        history.append(row)
        if trouble is not None:
            _one_kind_of_nan(self.model)
            self.outcome = self._ended("diverged", trouble)
        else:
            self.progress = Progress(history)
            self._end_where_a_rule_holds()
        return row

    def _unfinite(self) -> str | None:
        """Return what is not finite, the epoch's loss or a weight, and None where all is."""
        if not self.loss_sum.isfinite():
            return "non_finite_loss"
        finite = [parameter.isfinite().all() for parameter in self.model.parameters()]
        return None if torch.stack(finite).all() else "non_finite_weights"  # one wait for the device

    def interrupt(self) -> None:
        """End the attempt: the run is to go on from here another time."""
        self.outcome = self._ended("interrupted", "interrupted")

    def _end_where_a_rule_holds(self) -> None:
        reason = stop_reason(self.config.stop, self.progress.history)
        if reason is not None:
            self.outcome = self._ended("finished", reason)

    def _ended(self, status: Literal["finished", "diverged", "interrupted"], reason: str) -> TrainingOutcome:
        history = self.progress.history
        final = {key: history[-1][key] if status == "finished" else None for key in METRICS}
        return TrainingOutcome(status, reason, len(history), history, final)


def _one_kind_of_nan(model: nn.Module) -> None:
    """Give every NaN the same bits: a processor hands on those of either operand, as its instructions happen to."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.masked_fill_(tensor.isnan(), math.nan)
