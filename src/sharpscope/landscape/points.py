"""Loss and accuracy of a network at given weights, with batch normalisation's statistics recomputed or kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.autograd.module_state import preserved_random_state, private_copy
from sharpscope.objective.objective import Objective

STATISTICS_BATCH = 1000
"""Samples per batch when batch normalisation's statistics are recomputed; the batches' statistics are averaged."""


class Points:
    """A copy of an objective's model whose weights are set to the points to evaluate."""

    def __init__(self, obj: Objective, recompute: bool) -> None:
        self.obj = obj
        self.model = private_copy(obj.model).to(obj.dtype).eval()
        self.norms = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.norms = [m for m in self.norms if m.running_mean is not None]
        self.recompute = recompute and bool(self.norms)
        named = dict(self.model.named_parameters())
        self.parameters = [named[name] for name in obj.layout.names]

    def evaluate(
        self, theta: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> tuple[float, float | None]:
        """Return loss and accuracy at a flat vector (size,); accuracy None where there are no class labels."""
        with preserved_random_state(), torch.no_grad():
            for parameter, value in zip(self.parameters, self.obj.layout.split(theta).values(), strict=True):
                parameter.copy_(value)
            for name, buffer in self.model.named_buffers():
                if buffers is not None and name in buffers:
                    buffer.copy_(buffers[name])
            if self.recompute:
                recompute_statistics(self.model, self.norms, self.obj)
            return self._loss_and_accuracy()

    def _loss_and_accuracy(self) -> tuple[float, float | None]:
        total = weight = 0.0
        correct, samples, labelled = 0, 0, True
        self.model.eval()
        evaluator = self.obj.evaluator.with_model(self.model, self.obj.dtype)
        for index, chunk, _ in evaluator.chunks():
            placed = evaluator.placed(chunk)
            if evaluator.loss is None:
                value, n = evaluator.mean_loss(placed)
                labelled = False
            else:
                outputs, mean = evaluator.outputs_and_loss(placed)
                value, n, targets = mean(outputs), mean.weight, placed[1]
                samples += len(targets)
                labelled = (
                    labelled and outputs.ndim == 2 and targets.ndim == 1 and not targets.is_floating_point()
                )
                if labelled:
                    correct += int((outputs.argmax(1) == targets).sum())
            total += n * float(value)
            weight += n
            evaluator.chunk_done(index + 1)
        return total / weight, correct / samples if labelled else None


def recompute_statistics(model: nn.Module, norms: list[Any], obj: Objective) -> None:
    """Give every batch normalisation the average of its batches' statistics over the objective's data.

    One pass in train mode with dropout off. The measured data is regrouped into batches of about 1000, so that a few
    samples at the end do not count like a full batch.
    """
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches of this pass
        norm.train()
    try:
        for batch in _statistics_batches(obj):
            placed = obj.evaluator.placed(batch)
            if obj.evaluator.batch_loss is not None:
                obj.evaluator.batch_loss(model, placed)
            else:
                model(placed[0])
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _statistics_batches(obj: Objective) -> Any:
    if obj.evaluator.loss is None:
        return obj.evaluator.batches
    inputs, targets = obj.evaluator.tensors()
    pieces = max(1, round(len(targets) / STATISTICS_BATCH))
    return zip(inputs.tensor_split(pieces), targets.tensor_split(pieces), strict=True)
