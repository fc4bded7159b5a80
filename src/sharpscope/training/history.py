"""The record of a run: one row for every epoch, JSON throughout.

=====================================  =================================================================
``epoch``                              counted from 1
``lr``                                 the learning rate of the epoch
``epoch_loss``, ``epoch_accuracy``     means over the epoch's minibatches in train mode, while the weights
                                       moved, every sample counting once
``train_loss``, ``train_accuracy``     over the whole training set in eval mode at the epoch's end
``validation_*``, ``test_*``           likewise; None without a validation set
``seconds``                            time spent on the epoch, evaluation included
=====================================  =================================================================

Accuracies of a regression are None, and so is any loss that is not finite.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sharpscope.training.evaluation import evaluate

if TYPE_CHECKING:
    from torch import nn

    from sharpscope.data import Dataset
    from sharpscope.training.losses import Loss

Row = dict[str, Any]

METRICS = tuple(
    f"{split}_{what}" for split in ("train", "validation", "test") for what in ("loss", "accuracy")
)
"""The keys of an evaluation, in the order of the table."""


def evaluation(model: nn.Module, dataset: Dataset, loss: Loss) -> Row:
    """Return `METRICS` of a model on every split of a data set."""
    metrics: Row = dict.fromkeys(METRICS)
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for name, split in splits.items():
        if split is not None and len(split):
            metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = evaluate(model, split, loss)
    return metrics


def recorded(row: Row) -> Row:
    """Return a row with None for what is not finite, which JSON cannot say.

    >>> recorded({"epoch": 2, "epoch_loss": float("nan"), "train_loss": 0.5, "test_accuracy": None})
    {'epoch': 2, 'epoch_loss': None, 'train_loss': 0.5, 'test_accuracy': None}
    """
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
