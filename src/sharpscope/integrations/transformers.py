"""The monitor as a Hugging Face Trainer callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from sharpscope.integrations.monitor import SharpnessMonitor
from sharpscope.objective.objective import Objective


class SharpnessCallback(TrainerCallback):  # type: ignore[misc]  # optional, so unknown to the type checker
    """Monitors the model of a ``transformers.Trainer``.

    ``objective`` makes the measured function from the model, once it is on its device; for models that return
    their loss: ``lambda model: Objective.from_batch_loss(model, batches, batch_loss)`` with
    ``batch_loss(model, batch) -> (model(**batch).loss, len(batch["labels"]))``. ``choices`` are
    `SharpnessMonitor`'s. Of several processes the first one measures.

    The numbers are added to ``state.log_history`` as ``sharpness/lambda_max`` and so on; ``callback.monitor`` is
    the `SharpnessMonitor`.
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
            self.monitor.trackers.append(_History(state))

    def on_step_end(self, args: Any, state: Any, control: Any, **trainer: Any) -> None:
        """Announce the step."""
        if state.is_world_process_zero:
            self.monitor.after_step(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **trainer: Any) -> None:
        """Write what is left."""
        if state.is_world_process_zero:
            self.monitor.close()


class _History:
    def __init__(self, state: Any) -> None:
        self._state = state

    def log(self, numbers: Any, step: int) -> None:
        self._state.log_history.append(
            {"step": step, **{f"sharpness/{name}": value for name, value in numbers.items()}}
        )
