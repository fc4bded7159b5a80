"""The monitor as a Hugging Face Trainer callback, and a Trainer that steps with SAM."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import CallbackHandler

from sharpscope.errors import InputError
from sharpscope.integrations.monitor import SharpnessMonitor
from sharpscope.objective.objective import Objective
from sharpscope.optim.sharpness_aware import SharpnessAware


class SharpnessCallback(TrainerCallback):  # type: ignore[misc]  # optional, so unknown to the type checker
    """Monitors the model of a ``transformers.Trainer``.

    ``objective`` makes the measured function from the model, once it is on its device; for models that return
    their loss: ``lambda model: Objective.from_batch_loss(model, batches, batch_loss)`` with
    ``batch_loss(model, batch) -> (model(**batch).loss, len(batch["labels"]))``. ``choices`` are
    `SharpnessMonitor`'s. Of several processes the first one measures.

    The numbers go where Trainer's own do, as ``sharpness/lambda_max`` and so on: into ``state.log_history``, and by
    the event ``on_log`` to every other callback, those that ``report_to`` stands for among them. ``callback.monitor``
    is the `SharpnessMonitor`.
    """

    monitor: SharpnessMonitor

    def __init__(self, objective: Callable[[torch.nn.Module], Objective], **choices: Any) -> None:
        self._objective, self._choices = objective, choices

    def on_train_begin(self, args: Any, state: Any, control: Any, **trainer: Any) -> None:
        """Make the monitor, and go on where a resumed training stands."""
        if state.is_world_process_zero:
            self.monitor = SharpnessMonitor(
                self._objective(trainer["model"]), optimizer=trainer.get("optimizer"), **self._choices
            )
            if state.global_step:
                self.monitor.resume(state.global_step)
            self.monitor.trackers.append(_Reports(args, state, control))

    def on_step_end(self, args: Any, state: Any, control: Any, **trainer: Any) -> None:
        """Announce the step."""
        if state.is_world_process_zero:
            self.monitor.after_step(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **trainer: Any) -> None:
        """Write what is left."""
        if state.is_world_process_zero:
            self.monitor.close()


class _Reports:
    """Logs as Trainer does. Trainer hands callbacks no way to it, so its handler is looked up among the callers."""

    def __init__(self, args: Any, state: Any, control: Any) -> None:
        self._event = (args, state, control)
        frame = inspect.currentframe()
        while frame is not None and not isinstance(frame.f_locals.get("self"), CallbackHandler):
            frame = frame.f_back
        self._handler = None if frame is None else frame.f_locals["self"]

    def log(self, numbers: Any, step: int) -> None:
        named = {f"sharpness/{name}": value for name, value in numbers.items()}
        self._event[1].log_history.append({"step": step, **named})
        if self._handler is not None:
            self._handler.call_event("on_log", *self._event, logs=named)


class SAMTrainer(Trainer):  # type: ignore[misc]  # optional, so unknown to the type checker
    """A ``transformers.Trainer`` for `sharpscope.SAM` and its variants.

    Trainer steps without a closure, so the two evaluations are made here: after the last micro-batch of an
    accumulation the weights go to θ + ε, all its micro-batches are evaluated again, and then Trainer clips and steps
    as ever. The loss that is logged is the one at θ. Loss scaling, clipping, schedules and checkpoints are Trainer's.

    Give the optimizer: ``SAMTrainer(model, args, optimizers=(SAM(model.parameters(), torch.optim.AdamW, lr=5e-5),
    None), ...)``; for the schedule None means Trainer's own.

    Raises
    ------
    InputError
        At the first step, where the optimizer is none of that family.

    """

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Return the micro-batches of an accumulation, and keep them for the second evaluation."""
        samples, items = super().get_batch_samples(*args, **kwargs)
        self._window, self._evaluated = list(samples), 0
        return samples, items

    def training_step(self, model: torch.nn.Module, inputs: Any, *rest: Any, **named: Any) -> Any:
        """Evaluate a micro-batch; after the last one go to θ + ε and evaluate all of them there."""
        loss = super().training_step(model, inputs, *rest, **named)
        self._evaluated += 1
        if self._evaluated < len(self._window):
            return loss
        optimizer = self._sharpness_aware()
        scaler = getattr(self.accelerator, "scaler", None)
        if not optimizer.perturbs():
            return loss
        optimizer.first_step(grad_scale=None if scaler is None else scaler.get_scale())
        try:
            for number, again in enumerate(self._window, start=1):
                last = number == len(self._window)
                with nullcontext() if last else self.accelerator.no_sync(model):
                    super().training_step(model, again, *rest, **named)
        except BaseException:
            optimizer.restore()
            raise
        return loss

    def _sharpness_aware(self) -> SharpnessAware:
        optimizer = self.optimizer
        while not isinstance(optimizer, SharpnessAware) and hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer  # accelerate's wrapper
        if not isinstance(optimizer, SharpnessAware):
            raise InputError(
                f"SAMTrainer steps with SAM or a variant of it, received {type(optimizer).__name__}; give it as "
                "optimizers=(SAM(model.parameters(), torch.optim.AdamW, lr=...), None), or use Trainer"
            )
        return optimizer
