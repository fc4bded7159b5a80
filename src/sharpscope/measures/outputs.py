"""The model's outputs on an objective's data, for measures that look at outputs rather than at the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.objective.objective import Objective


def require_outputs(obj: Objective, measure: str) -> None:
    """Raise `InputError` where the model's outputs are not known apart from the loss."""
    if obj.evaluator.loss is None:
        raise InputError(
            f"{measure} needs the model's outputs, received an objective made with from_batch_loss; build it from "
            "loss(outputs, targets)"
        )


def outputs_and_targets(obj: Objective, measure: str) -> Iterator[tuple[Tensor, Any]]:
    """Yield (outputs without a graph, targets) chunk by chunk; one pass over the data."""
    require_outputs(obj, measure)
    evaluator = obj.evaluator

    def of_chunk(batch: Any, weights: Tensor | None) -> tuple[Any, Any]:
        outputs, _ = evaluator.outputs_and_loss(batch, weights)
        return outputs, batch[1]

    for outputs, targets in evaluator.of_one_process().each_chunk(
        of_chunk, evaluator.leaves(grad=False), grad=False
    ):
        if not isinstance(outputs, Tensor):
            raise InputError(
                f"{measure} needs a model that returns one tensor, received {type(outputs).__name__}; wrap the model"
            )
        yield outputs.detach(), targets
    evaluator.cost.losses += 1


def logits_and_classes(obj: Objective, measure: str) -> tuple[Tensor, Tensor]:
    """Return all logits (n, classes) and class labels (n,); raise `InputError` where the data has none."""
    logits, classes = [], []
    for outputs, targets in outputs_and_targets(obj, measure):
        labelled = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
        if outputs.ndim != 2 or outputs.shape[1] < 2 or not labelled:
            raise InputError(
                f"{measure} needs logits (n, classes) and class labels (n,), received outputs of shape "
                f"{tuple(outputs.shape)}; it is defined for classifiers only"
            )
        logits.append(outputs)
        classes.append(targets)
    return torch.cat(logits), torch.cat(classes)
