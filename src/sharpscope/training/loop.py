"""Training one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sharpscope.autograd.allocator import freed_memory_kept
from sharpscope.errors import InputError
from sharpscope.training.augmentation import Augmentation
from sharpscope.training.computation import convolutions_in_channels_last, forward_of
from sharpscope.training.data_parallel import SharedSteps
from sharpscope.training.history import Progress, Row, TrainingOutcome
from sharpscope.training.losses import smoothed_cross_entropy
from sharpscope.training.reproducible import reproducible, seed_step
from sharpscope.training.run_state import RunState

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

    from sharpscope.data import Dataset
    from sharpscope.training.config import RunConfig

_FINITE_EVERY = 50
"""Steps between checks that the running loss is finite. A check waits for the device, so not every step has one."""


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
    group: ProcessGroup | None = None,
) -> TrainingOutcome:
    """Train a model, in place, until a stopping rule holds, it diverges, or it is asked to stop.

    The model comes with its initial weights (see `weight_seed`); it is moved to the device and to the run's
    dtype. A step is one closure handed to the optimizer: clear the gradients, mean loss of the batch, backward.
    The order of the samples and the dropout of every step follow from the run's identifier, so the same
    configuration and initial weights give the same bits on the same machine with the same number of threads.

    With a `workspace`, progress is saved there every `checkpoint_every_s` seconds and when `should_stop`
    (asked before every step) says so; a later call with the same workspace goes on from there, in the middle of
    an epoch as well, to the same bits as if it had never stopped. `on_epoch` receives each new row of the
    history.

    With a `group` of ``torch.distributed`` its ranks train together: every rank makes this call with the same
    arguments and takes its part of every batch; all end with the same bits, which differ from those of one process in
    the rounding of sums alone. Rank 0 saves, and its `should_stop` counts. Batch normalisation and dropout are
    refused.

    A loss or weight that becomes NaN or infinite ends the run as ``diverged``: an outcome, not an exception.
    Raises `InputError` where configuration, data and model do not fit, `CheckpointError` for a workspace that
    holds another run or cannot be read.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    model.to(device=device, dtype=dtype)
    with reproducible(device), freed_memory_kept(), convolutions_in_channels_last(config, model, device):
        saves = group is None or torch.distributed.get_rank(group) == 0
        run = RunState(
            config, dataset.to(device, dtype), model, device, workspace, checkpoint_every_s, saves=saves
        )
        step = Step(run, group)
        while run.outcome is None:
            if not _train_epoch(run, step, should_stop):
                run.interrupt()
                break
            row = run.end_epoch()
            if on_epoch is not None:
                with run.evaluated_weights():
                    on_epoch(dict(row))
            # a run that diverged keeps its last save, from before that: a later attempt finds the same again
            if run.save_is_due() and (run.outcome is None or run.outcome.status != "diverged"):
                run.save()
        run.publish()
    assert run.outcome is not None
    return run.outcome


def take_step(
    config: RunConfig, dataset: Dataset, model: nn.Module, epoch: int, device: torch.device | str = "cpu"
) -> None:
    """Take the first step of an epoch, in place, as `train` would take it with an optimizer that has no state.

    ``epoch`` counts from 1; the data and the model are those of the run, in its dtype. Raises what `train` raises.
    """
    device = torch.device(device)
    with reproducible(device), convolutions_in_channels_last(config, model, device):
        run = RunState(config, dataset, model, device, None, 0.0)
        run.progress = Progress([{}] * (epoch - 1))
        run.begin_epoch()
        seed_step(run.run_id, epoch, 0, device)
        Step(run)(0)


def _train_epoch(run: RunState, take: Step, should_stop: Callable[[], bool] | None) -> bool:
    """Take the remaining steps of the epoch, fewer once the loss is not finite or is as low as it is to become.

    Returns False when asked to stop.
    """
    begin, steps = run.begin_epoch(), len(run.batches)
    for step in range(begin, steps):
        asked = take.agreed(should_stop is not None and should_stop())
        if asked or run.save_is_due():
            run.note(step)
            run.save()
        if asked:
            return False
        seed_step(run.run_id, run.epoch, step, run.device)
        run.schedule(step)
        take(step)
        if step % _FINITE_EVERY == 0 and not run.loss_sum.isfinite():
            break
        if step + 1 < steps and run.is_low_enough(step + 1):
            run.note(step + 1)
            return True
    run.note(steps)
    return True


class Step:
    """One training step of a run: the optimizer receives a closure; loss and hits join the epoch's sums."""

    def __init__(self, run: RunState, group: ProcessGroup | None = None) -> None:
        self._run = run
        config = run.config
        self._forward = forward_of(config, run.model, run.device)
        smoothing = config.label_smoothing
        self._loss = smoothed_cross_entropy(smoothing) if smoothing else run.loss
        self._clipped = [p for group in run.optimizer.param_groups for p in group["params"]]
        self._augmented = (
            Augmentation(config.augmentation, run.dataset, run.run_id)
            if config.augmentation is not None
            else None
        )
        self._labelled = run.dataset.task == "classification"
        self._together = None if group is None else SharedSteps(group, run.model, self._clipped, run.device)

    def agreed(self, asked: bool) -> bool:
        """Return whether all ranks are to stop before the next step."""
        return asked if self._together is None else self._together.agreed(asked)

    def __call__(self, step: int) -> None:
        """Take a step of the epoch; loss and hits are those of the weights it starts from.

        The optimizer decides how often the closure runs: most run it once, L-BFGS and SAM several times.
        """
        run = self._run
        inputs, targets = run.batches[step]
        if self._augmented is not None:
            inputs = self._augmented(inputs, run.epoch, step)
        start: list[Tensor] = []

        def closure() -> Tensor:
            run.optimizer.zero_grad()
            if self._together is None:
                outputs = self._forward(inputs)
                loss = self._loss(outputs, targets)
                loss.backward()
                hits = (outputs.detach().argmax(1) == targets).sum() if self._labelled and not start else loss
            else:
                loss, hits = self._together.gradients(
                    self._forward, self._loss, inputs, targets, self._labelled
                )
            if run.config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self._clipped, run.config.clip_norm)
            if not start:
                start.extend((loss.detach(), hits))
            return loss

        optimizer_step: Any = run.optimizer.step  # torch types a closure as returning a float
        try:
            optimizer_step(closure)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                f"batch normalisation cannot normalise a batch of {len(targets)} sample; set drop_last = true or "
                f"choose a batch_size that leaves no single sample of {len(run.dataset.train)}."
            ) from error
        if run.average is not None:
            run.average.update()
        loss, hits = start
        run.loss_sum.add_(loss, alpha=len(targets))
        if self._labelled:
            run.correct += hits
