"""The state of a run in training: model, optimizer, position, record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sharpscope.errors import InputError
from sharpscope.training.averaging import WeightAverage
from sharpscope.training.evaluation import evaluate, evaluate_splits
from sharpscope.training.history import METRICS, Progress, Row, Status, TrainingOutcome, recorded
from sharpscope.training.losses import Loss, loss_function
from sharpscope.training.optimizers import build_optimizer
from sharpscope.training.reproducible import epoch_order, seed_step
from sharpscope.training.schedules import learning_rate
from sharpscope.training.stopping import HOPELESS, stop_reason
from sharpscope.training.validation import resolved_loss, validate
from sharpscope.training.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sharpscope.data import Dataset, Split
    from sharpscope.training.config import RunConfig


class Minibatches:
    """The batches of an epoch, by number; the last one may be smaller.

    ``order`` (samples,) holds the indices in the order they are visited, None where every batch is the whole set.
    """

    def __init__(
        self, split: Split, config: RunConfig, run_id: str, epoch: int, device: torch.device
    ) -> None:
        n = len(split)
        self._split = split
        self.size = n if config.batch_size == "full" else config.batch_size
        passes = config.steps_per_epoch or 1
        self.samples = passes * (n - n % self.size if config.drop_last else n)
        whole = self.size == n  # every sample in one batch: their order has no effect, so none is made
        self.order = None if whole else epoch_order(run_id, epoch, n, device)[: self.samples]

    def __len__(self) -> int:
        return -(-self.samples // self.size)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if self.order is None:
            return self._split.inputs, self._split.targets
        chosen = self.order[number * self.size : (number + 1) * self.size]  # (batch,)
        return self._split.inputs.index_select(0, chosen), self._split.targets.index_select(0, chosen)


class RunState:
    """One run in training.

    ``loss_sum`` (float64) and ``correct`` (int64) are scalars on the device. They hold the sums over the current
    epoch's samples, and every step adds to them. ``outcome`` is None until the run ends.
    Where another process saves the same run, ``saves`` is false: the folder is then read once.
    """

    batches: Minibatches
    _workspace: Workspace | None

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        model: nn.Module,
        device: torch.device,
        folder: Path | None,
        checkpoint_every_s: float,
        saves: bool = True,
    ) -> None:
        self.config, self.dataset, self.model, self.device = config, dataset, model, device
        self.run_id = config.run_id()
        seed_step(
            self.run_id, 0, 0, device
        )  # validation runs the model once, and the model may draw at random
        validate(config, dataset, model)
        self.loss: Loss = loss_function(resolved_loss(config, dataset))
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(config.optimizer, trainable, model)
        self._radii = self._radii_of_optimizer()
        self.average = None if config.ema_decay is None else WeightAverage(model, config.ema_decay)
        self.outcome: TrainingOutcome | None = None
        self.progress, self._workspace = Progress(), None
        if folder is not None:
            workspace = Workspace(folder, self.run_id, checkpoint_every_s, saves=saves)
            self.progress = workspace.resume(model, self.optimizer, self.average)
            self._workspace = workspace if saves else None
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self._end_where_a_rule_holds()

    @property
    def epoch(self) -> int:
        """The number of the epoch being trained, counted from 1."""
        return len(self.progress.history) + 1

    def begin_epoch(self) -> int:
        """Prepare the current epoch, and return the number of its steps that an earlier attempt has taken."""
        progress = self.progress
        self.batches = Minibatches(self.dataset.train, self.config, self.run_id, self.epoch, self.device)
        self.schedule(progress.step)
        self.loss_sum.fill_(progress.loss_sum)
        self.correct.fill_(progress.correct)
        self.model.train()
        self._begin = time.perf_counter()
        return progress.step

    def schedule(self, step: int) -> None:
        """Give the optimizer its learning rate, and SAM its ρ, of a step of the epoch, counted from 0."""
        config, place = self.config, (self.epoch, self.config.stop.epochs, step, len(self.batches))
        self.lr = learning_rate(config.schedule, config.optimizer.lr, *place)
        for group, radius in zip(self.optimizer.param_groups, self._radii, strict=True):
            group["lr"] = self.lr
            if config.rho_schedule is not None:
                group["sam_rho"] = learning_rate(config.rho_schedule, radius, *place)

    def is_low_enough(self, step: int) -> bool:
        """Return whether the rule on ``train_loss`` looks after so many steps of the epoch, and holds there."""
        stop = self.config.stop
        if stop.train_loss is None or not stop.looks_within(self.progress.history, step):
            return False
        with self.evaluated_weights():
            return evaluate(self.model, self.dataset.train, self.loss)[0] <= stop.train_loss

    def note(self, step: int) -> None:
        """Record that ``step`` steps of the epoch are taken, with the sums and the seconds up to here."""
        now, progress = time.perf_counter(), self.progress
        progress.step, progress.loss_sum = step, self.loss_sum.item()
        progress.correct, progress.seconds = int(self.correct.item()), progress.seconds + now - self._begin
        self._begin = now

    def save_is_due(self) -> bool:
        """Return whether it is time to save again."""
        return self._workspace is not None and self._workspace.due()

    def save(self) -> None:
        """Save the state that `note` recorded last."""
        if self._workspace is not None:
            self._workspace.save(self.model, self.optimizer, self.progress, self.average)

    def end_epoch(self) -> Row:
        """Evaluate the model, append the epoch's row to the history, and end the run where a rule says so."""
        begin = time.perf_counter()
        steps = self.progress.step
        ended_within = steps < len(self.batches)
        samples = steps * self.batches.size if ended_within else self.batches.samples
        row = dict.fromkeys(("epoch", "lr", "epoch_loss", "epoch_accuracy", *METRICS, "seconds"))
        row |= {"epoch": self.epoch, "lr": self.lr, "epoch_loss": self.loss_sum.item() / samples}
        if self.dataset.task == "classification" and self.loss_sum.isfinite():
            answers = samples * self.dataset.train.targets[0].numel()
            row["epoch_accuracy"] = self.correct.item() / answers
        problem = self._non_finite()
        last = stop_reason(self.config.stop, [*self.progress.history, row]) is not None
        due = self.epoch % self.config.evaluate_every == 0 or self.config.stop.looks_at(self.epoch)
        if problem is None and (last or due or ended_within):
            with self.evaluated_weights():
                row |= evaluate_splits(self.model, self.dataset, self.loss)
            if recorded(row) != row:
                problem = "non_finite_loss"
        row["seconds"] = self.progress.seconds + time.perf_counter() - begin
        row = recorded(row)
        history = self.progress.history
        history.append(row)
        if problem is not None:
            _give_every_nan_the_same_bits(self.model)
            self._end("diverged", problem)
        else:
            self.progress = Progress(history)
            self._end_where_a_rule_holds()
        return row

    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """Put the weights that are evaluated into the model: their moving average, where the run has one."""
        with nullcontext() if self.average is None else self.average.in_place():
            yield

    def publish(self) -> None:
        """Leave the model of a run that is over with the weights that are evaluated."""
        over = self.outcome is not None and self.outcome.status in ("finished", "stopped")
        if self.average is not None and over:
            self.average.publish()

    def interrupt(self) -> None:
        """End this attempt; a later call of `train` continues the run."""
        self._end("interrupted", "interrupted")

    def _non_finite(self) -> str | None:
        """Return which of the epoch's loss and the weights is not finite, and None where both are."""
        if not self.loss_sum.isfinite():
            return "non_finite_loss"
        finite = [parameter.isfinite().all() for parameter in self.model.parameters()]
        return None if torch.stack(finite).all() else "non_finite_weights"  # one wait for the device

    def _radii_of_optimizer(self) -> list[float]:
        """Return ρ of every group of parameters, as configured; zeros where no schedule moves it."""
        groups = self.optimizer.param_groups
        if self.config.rho_schedule is None:
            return [0.0] * len(groups)
        if not all("sam_rho" in group for group in groups):
            raise InputError(
                f"rho_schedule moves sam_rho of the optimizer's groups, and those of {self.config.optimizer.name} "
                "have none; leave it out."
            )
        return [float(group["sam_rho"]) for group in groups]

    def _end_where_a_rule_holds(self) -> None:
        reason = stop_reason(self.config.stop, self.progress.history)
        if reason is not None:
            self._end("stopped" if reason == HOPELESS else "finished", reason)

    def _end(self, status: Status, reason: str) -> None:
        history = self.progress.history
        final = {key: history[-1][key] if status == "finished" else None for key in METRICS}
        if status == "finished" and self.dataset.whole_test is not None:
            with self.evaluated_weights():
                test = evaluate(self.model, self.dataset.whole_test, self.loss)
            final["test_loss"], final["test_accuracy"] = test
        self.outcome = TrainingOutcome(status, reason, len(history), history, final)


def _give_every_nan_the_same_bits(model: nn.Module) -> None:
    """Replace every NaN by one NaN: which of its bit patterns arithmetic gives depends on the instructions used."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.masked_fill_(tensor.isnan(), math.nan)
