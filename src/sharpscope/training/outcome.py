"""What a training run came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended, and its record.

    - ``status``: ``finished`` by a stopping rule; ``diverged``: a loss or a weight became NaN or infinite;
      ``interrupted``: asked to stop, with its state saved where there is a workspace.
    - ``stop_reason``: the rule (``train_accuracy``, ``train_loss``, ``plateau``, ``relative_change``,
      ``epochs``), or ``non_finite_loss``, ``non_finite_weights``, ``interrupted``.
    - ``epochs``: epochs completed, or the epoch in which it diverged.
    - ``history``: a row for every epoch, see `sharpscope.training.history`; the epoch of a divergence included.
    - ``final``: loss and accuracy on every split at the end, ``train_loss`` … ``test_accuracy``; None for what
      does not exist (no validation set, a regression's accuracy), and throughout unless ``finished``.
    """

    status: Literal["finished", "diverged", "interrupted"]
    stop_reason: str
    epochs: int
    history: list[dict[str, Any]]
    final: dict[str, float | None]
