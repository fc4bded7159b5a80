"""The record of a run: one row for every epoch, JSON throughout, and how the run ended.

=====================================  =================================================================
``epoch``                              counted from 1
``lr``                                 the learning rate of the epoch
``epoch_loss``, ``epoch_accuracy``     means over the epoch's minibatches in train mode, while the weights
                                       moved, every sample counting once
``train_loss``, ``train_accuracy``     over the whole training set in eval mode at the epoch's end; None for an
                                       epoch that ``evaluate_every`` leaves out
``validation_*``, ``test_*``           likewise; None without a validation set
``seconds``                            time spent on the epoch, evaluation included
=====================================  =================================================================

Accuracies of a regression are None, and so is any loss that is not finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

Row = dict[str, Any]
Status = Literal["finished", "stopped", "diverged", "interrupted"]

METRICS = tuple(
    f"{split}_{what}" for split in ("train", "validation", "test") for what in ("loss", "accuracy")
)
"""The keys of an evaluation, in order: ``train_loss``, ``train_accuracy``, …, ``test_accuracy``."""


@dataclass
class Progress:
    """Everything about a run in flight besides its weights and its optimizer's state.

    ``step`` steps of the epoch after ``len(history)`` are taken; ``loss_sum``, ``correct`` and ``seconds`` are
    what they have accumulated.
    """

    history: list[Row] = field(default_factory=list)
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended, and its record.

    - ``status``: ``finished`` by a stopping rule; ``stopped`` early by a rule that gave it up as hopeless;
      ``diverged``: a loss or a weight became NaN or infinite;
      ``interrupted``: asked to stop, with its state saved where there is a workspace.
    - ``stop_reason``: the rule (``train_accuracy``, ``train_loss``, ``plateau``, ``relative_change``,
      ``epochs``), ``hopeless``, or ``non_finite_loss``, ``non_finite_weights``, ``interrupted``.
    - ``epochs``: epochs completed, or the epoch in which it diverged.
    - ``history``: a row for every epoch, the epoch of a divergence included.
    - ``final``: loss and accuracy on every split at the end, ``train_loss`` … ``test_accuracy``; None for what
      does not exist (no validation set, a regression's accuracy), and throughout unless ``finished``.
    """

    status: Status
    stop_reason: str
    epochs: int
    history: list[Row]
    final: dict[str, float | None]


def recorded(row: Row) -> Row:
    """Return a row with None for what is not finite, which JSON cannot say.

    >>> recorded({"epoch": 2, "epoch_loss": float("nan"), "train_loss": 0.5, "test_accuracy": None})
    {'epoch': 2, 'epoch_loss': None, 'train_loss': 0.5, 'test_accuracy': None}
    """
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
