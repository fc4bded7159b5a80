"""Loss and accuracy of a model over a whole split, or over every split of a data set, in eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from sharpscope.errors import InputError
from sharpscope.training.history import METRICS
from sharpscope.training.losses import Loss, loss_function

if TYPE_CHECKING:
    from torch import nn

    from sharpscope.data import Dataset, Split


def evaluate(
    model: nn.Module, split: Split, loss: str | Loss, batch: int = 500
) -> tuple[float, float | None]:
    """Return the mean loss and the accuracy over a split.

    The model is put in eval mode for the time (dropout off, batch normalisation on its running statistics) and
    every module gets its own mode back. Chunks of `batch` samples count by their size; sums are in float64.
    Accuracy is the share of samples, or of tokens, whose largest output is the label's, and None where the targets
    are real numbers. Raises `InputError` for an empty split.
    """
    if len(split) == 0:
        raise InputError("a loss over no samples is undefined; the split is empty.")
    criterion = loss_function(loss) if isinstance(loss, str) else loss
    labelled = not split.targets.is_floating_point()
    total = torch.zeros((), dtype=torch.float64, device=split.targets.device)
    correct = torch.zeros((), dtype=torch.int64, device=split.targets.device)
    with torch.no_grad(), eval_mode(model):
        for inputs, targets in zip(split.inputs.split(batch), split.targets.split(batch), strict=True):
            outputs = model(inputs)
            total.add_(criterion(outputs, targets), alpha=len(targets))
            if labelled:
                correct += (outputs.argmax(1) == targets).sum()
    return total.item() / len(split), correct.item() / split.targets.numel() if labelled else None


def evaluate_splits(model: nn.Module, dataset: Dataset, loss: Loss) -> dict[str, float | None]:
    """Return `METRICS` of a model on every split of a data set; None for a split that is missing or empty."""
    metrics: dict[str, float | None] = dict.fromkeys(METRICS)
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for name, split in splits.items():
        if split is not None and len(split):
            metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = evaluate(model, split, loss)
    return metrics


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and every one of its modules back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
