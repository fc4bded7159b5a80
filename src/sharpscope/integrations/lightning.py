"""The monitor as a Lightning callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

try:
    from lightning.pytorch import Callback
except ImportError:  # the same library under its older name
    from pytorch_lightning import Callback

from sharpscope.integrations.monitor import SharpnessMonitor
from sharpscope.objective.objective import Objective


class SharpnessCallback(Callback):  # type: ignore[misc]  # Lightning is optional, so unknown to the type checker
    """Monitors a ``LightningModule`` while its ``Trainer`` fits it.

    ``objective`` makes the measured function from the module, once it is on its device:
    ``lambda module: Objective(module, loss, probe)``. ``choices`` are `SharpnessMonitor`'s (``every``, ``share``,
    ``path``, …). The numbers also go to the trainer's loggers, as ``sharpness/lambda_max`` and so on. Of several
    processes the first one measures.

    After (and during) a fit, ``callback.monitor`` is the `SharpnessMonitor`.
    """

    monitor: SharpnessMonitor

    def __init__(self, objective: Callable[[torch.nn.Module], Objective], **choices: Any) -> None:
        super().__init__()
        self._objective, self._choices = objective, choices

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the monitor, and go on where a resumed training stands."""
        if trainer.is_global_zero:
            optimizers = trainer.optimizers
            self.monitor = SharpnessMonitor(
                self._objective(pl_module), optimizer=optimizers[0] if optimizers else None, **self._choices
            )
            if trainer.global_step:
                self.monitor.resume(trainer.global_step)
            self.monitor.trackers.append(_Loggers(trainer))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Announce the step; batches of one accumulation count once."""
        if trainer.is_global_zero:
            self.monitor.after_step(trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write what is left."""
        if trainer.is_global_zero:
            self.monitor.close()


class _Loggers:
    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def log(self, numbers: Any, step: int) -> None:
        for logger in self._trainer.loggers:
            logger.log_metrics({f"sharpness/{name}": value for name, value in numbers.items()}, step=step)
