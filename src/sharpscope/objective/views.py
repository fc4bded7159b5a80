"""The objective that a measure is taken of: a part of the parameters, preconditioned, with normalised logits.

Measures that take the options ``params``, ``preconditioner`` and ``normalise_logits`` all mean what `view_of` says.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.objective.fingerprint import describe_callable
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.preconditioned import preconditioned, preconditioner_digest

SMALLEST_NORM = 1e-10
"""Norm below which logits are not enlarged, as in the code of Andriushchenko et al. (2023)."""


def view_of(
    obj: Objective,
    *,
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> tuple[Objective, dict[str, object]]:
    """Return the objective that the options choose, and what they add to a protocol.

    Parameters
    ----------
    params
        Names, shell patterns or a predicate (name, parameter): measure the block of these parameters, the others held
        fixed. None: the objective's own.
    preconditioner
        P's diagonal (size,), > 0: curvature is that of P^{-1/2} H P^{-1/2}; see
        `sharpscope.objective.preconditioned`.
    normalise_logits
        Divide every sample's centred outputs by their ℓ2 norm before the loss, f̃ = (f − f̄) / ‖f − f̄‖, so that the
        loss does not depend on the scale of the logits (Andriushchenko et al. 2023; as in their code).

    """
    view, protocol = obj, dict[str, object]()
    if normalise_logits:
        view = _with_normalised_logits(view)
        protocol["normalise_logits"] = True
    if params is not None:
        # a copy, since the other parameters keep the model's own values: those of the point measured at
        view = (view if view.evaluator.centre is None else view.with_copy(view.dtype)).with_params(params)
        protocol["params"] = "predicate" if callable(params) else params
    if preconditioner is not None:
        view = preconditioned(view, preconditioner)
        protocol["preconditioner"] = preconditioner_digest(preconditioner)
    return view, protocol


class NormalisedLogits:
    """A loss of outputs (n, k) or (n, k, tokens) that are centred and divided by their norm, sample by sample."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        self.__qualname__ = f"NormalisedLogits[{describe_callable(loss)}]"

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        """Return the loss of the normalised outputs."""
        classes = 1 if outputs.ndim > 1 else 0
        centred = outputs - outputs.mean(classes, keepdim=True)
        norms = torch.linalg.vector_norm(centred, dim=classes, keepdim=True).clamp_min(SMALLEST_NORM)
        value: Tensor = self.loss(centred / norms, targets)
        return value


def _with_normalised_logits(obj: Objective) -> Objective:
    if obj.evaluator.loss is None:
        raise InputError(
            "normalise_logits needs the model's outputs apart from the loss, received an objective made with "
            "from_batch_loss; build it from loss(outputs, targets)"
        )
    loss = NormalisedLogits(obj.evaluator.loss)

    def batch_loss(model: Any, batch: Any) -> tuple[Tensor, float]:
        inputs, targets = batch
        return loss(model(inputs), targets), len(targets)

    view = copy(obj)
    view.evaluator = copy(obj.evaluator)
    view.evaluator.loss, view.evaluator.batch_loss = loss, batch_loss
    return view
