"""Checks that a user's loss is a mean over samples.

L(θ) is put together from means of chunks. A sum, or a mean that is normalised by something else than the number of
samples, would make it depend on how the data is cut into batches and chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from sharpscope.autograd.module_state import SavedState
from sharpscope.errors import InputError
from sharpscope.objective.batches import FixedBatches, map_tensors, tensors_in
from sharpscope.objective.evaluator import Evaluator
from sharpscope.objective.mean_loss import Counts, WeightedMean, checked_loss
from sharpscope.seeding import generator

SPREAD = 64
"""Samples from all over the data whose targets the loss is checked with, besides one for each value of a label."""

BATCHES = 64
"""Most batches that such samples are taken from."""


def check_mean(evaluator: Evaluator, outputs: Any, batch: Any) -> None:
    """Refuse a loss of outputs and targets that is no mean over samples.

    It is evaluated on the first samples, whose ``outputs`` (n, ...) are given, and on targets from all over the data
    with made-up outputs: those of the first samples in another order, and larger ones, since near initialisation all
    losses are alike and a wrong weighting does not show.
    """
    loss = evaluator.loss
    assert loss is not None
    _, targets = evaluator.placed(batch)
    own = [t for t in tensors_in(outputs) if t.ndim and len(t) == len(targets)]
    sliceable = bool(own) and len(own) == len(tensors_in(outputs))

    def checks(saved: SavedState) -> None:
        evaluator.substitute(saved, evaluator.leaves(grad=False))
        if not isinstance(outputs, Tensor):
            checked_loss(loss(outputs, targets))
        if sliceable:
            check_mean_reduction(loss, outputs, targets, evaluator.counts)
            in_step = evaluator.distribution is not None and evaluator.distribution.in_step
            spread = None if in_step else _spread_targets(evaluator.batches)
            placed = targets if spread is None else evaluator.placed(spread)
            for made_up in _made_up(outputs, len(targets), len(placed)):
                try:
                    check_mean_reduction(loss, made_up, placed, evaluator.counts)
                except InputError:
                    raise
                except Exception:  # outputs outside the loss's domain
                    continue
        elif not evaluator.batch_dependent:
            _check_parts(evaluator, loss, batch)

    evaluator.measuring(checks, grad=evaluator.records_always)


def _check_parts(evaluator: Evaluator, loss: Callable[[Any, Any], Tensor], batch: Any) -> None:
    """Check a loss of outputs that cannot be cut, by evaluating the model on parts of the batch."""
    inputs, targets = evaluator.placed(batch)

    def mean(part: slice) -> float:
        def of_chunk(placed: Any, weights: Tensor | None) -> float:
            return float(evaluator.mean_loss(placed)[0].detach())

        return evaluator.on_chunk(
            of_chunk, evaluator.leaves(grad=False), (inputs[part], targets[part]), grad=False
        )

    n = len(targets)
    if n > 1:
        parts = [slice(0, (n + 2) // 3), slice((n + 2) // 3, n)]
        whole, means = mean(slice(0, n)), [mean(part) for part in parts]
        _compare(loss, whole, parts, means, targets, evaluator.counts, None, lambda: 0.0)


def check_mean_reduction(
    loss: Callable[[Any, Any], Tensor], outputs: Any, targets: Tensor, counts: Counts | None = None
) -> None:
    """Refuse a loss that is not the mean over the samples of its batch.

    The mean over a batch must equal the sample-weighted mean over its parts; ``counts`` says how torch's own losses
    with class weights or ignored targets count samples, see `sharpscope.objective.mean_loss.counts_of`. Raises
    `InputError`; a sum does not pass, nor a mean normalised by anything else.
    """
    with torch.no_grad():
        value = checked_loss(loss(outputs, targets))
        n = len(targets)
        if n < 2 or any(tensor.ndim == 0 or len(tensor) != n for tensor in tensors_in(outputs)):
            return
        first = (n + 2) // 3  # uneven parts: equal ones would let a mean of batch means pass
        parts = [slice(0, first), slice(first, n)]

        def mean(part: slice) -> float:
            return float(
                WeightedMean(loss, targets[part], None, counts)(map_tensors(outputs, itemgetter(part)))
            )

        def rounding() -> float:
            """Return by how much sums of the samples' losses may differ, which cancel where their signs differ.

            Zero where the value is not the mean of these losses: a wrong loss may be huge for a single sample.
            """
            try:
                own = torch.tensor([mean(slice(i, i + 1)) for i in range(n)], dtype=torch.float64)
            except Exception:  # a loss of a single sample need not be possible
                return 0.0
            error = torch.finfo(value.dtype).eps * float(own.abs().sum())
            off = abs(float(own.mean()) - float(value)) - 1e-6 - 1e-3 * abs(float(value))
            return error if off <= error < math.inf else 0.0

        _compare(
            loss, float(value), parts, [mean(part) for part in parts], targets, counts, outputs, rounding
        )


def _compare(
    loss: Any,
    value: float,
    parts: list[slice],
    means: list[float],
    targets: Tensor,
    counts: Counts | None,
    outputs: Any,
    rounding: Callable[[], float],
) -> None:
    """Refuse a value on a batch that is not the weighted mean of those on its parts, within their ``rounding``."""
    weights = [float(len(targets[part]) if counts is None else counts(targets[part]).sum()) for part in parts]
    if not (sum(weights) > 0 and math.isfinite(value)):
        return
    weighted = sum(w * mean for w, mean in zip(weights, means, strict=True) if w) / sum(weights)
    off = abs(value - weighted) - 1e-6 - 1e-3 * abs(weighted)
    if not off > 0 or off <= rounding():
        return
    remedy = "use reduction='mean' without class weights of your own, or Objective.from_batch_loss"
    if isinstance(outputs, Tensor) and outputs.ndim == targets.ndim + 1 and outputs.shape[-1] == 1:
        remedy = (
            f"outputs of shape {tuple(outputs.shape)} against targets of shape {tuple(targets.shape)} are broadcast "
            "to all pairs: give both the same shape"
        )
    raise InputError(
        f"loss must be the mean over samples, received {_short(loss)} "
        f"(reduction {getattr(loss, 'reduction', 'mean')!r}), whose value on {len(targets)} samples is {value:.6g} "
        f"where its parts average {weighted:.6g}; {remedy}"
    )


def _spread_targets(batches: FixedBatches) -> Tensor | None:
    """Return targets of samples from all over the data: evenly spaced ones and one for each value of a label.

    None where the batches' targets differ in shape. Of a loader that is read again on every pass the first batches
    serve.
    """
    several = list(islice(batches, BATCHES)) if batches.streams else list(batches)
    if len(several) > BATCHES:
        several = [several[i * (len(several) - 1) // (BATCHES - 1)] for i in range(BATCHES)]
    if len({targets.shape[1:] for _, targets in several}) > 1:
        return None
    targets = torch.cat([targets for _, targets in several])
    n = len(targets)
    chosen = [i * (n - 1) // max(SPREAD - 1, 1) for i in range(min(SPREAD, n))]
    if not targets.is_floating_point() and not targets.is_complex() and targets[0].numel():
        flat = targets.reshape(n, -1)
        low, high = int(flat.min()), int(flat.max())
        if high - low < 2048:
            values = torch.full((high - low + 1,), -1).scatter_(
                0, (flat[:, 0] - low).cpu().long(), torch.arange(n)
            )
            chosen += values[values >= 0][:: max(1, len(values) // SPREAD)].tolist()
        chosen += [int(flat.amin(1).argmin()), int(flat.amax(1).argmax()), int((flat == low).sum(1).argmax())]
    picked = targets[chosen]
    # In this order two parts hold different labels, so that weights of classes differ between them.
    return picked[picked.reshape(len(picked), -1)[:, 0].argsort()] if picked[0].numel() else picked


def _made_up(outputs: Any, n: int, count: int) -> Iterator[Any]:
    """Yield outputs for ``count`` samples, made of the outputs for n: drawn from them, and with a larger spread."""
    draws = generator("check", "outputs")
    rows = torch.randint(n, (count,), generator=draws)

    def enlarged(tensor: Tensor) -> Tensor:
        picked = tensor.detach()[rows.to(tensor.device)]
        if not picked.is_floating_point():
            return picked
        noise = torch.randn(picked.shape, generator=draws).to(picked)
        if bool((picked >= 0).all()) and bool((picked <= 1).all()):  # probabilities
            sums = picked.sum(-1, keepdim=True)
            odds = torch.sigmoid(2 * noise)
            return odds / odds.sum(-1, keepdim=True) if bool((sums - 1).abs().max() < 1e-3) else odds
        if bool((picked.logsumexp(-1).abs() < 1e-3).all()):  # logarithms of probabilities
            return torch.log_softmax(3 * noise, -1)
        scale = max(float(picked.std()) if picked.numel() > 1 else 0.0, 1.0)
        return picked.mean() + 3 * scale * noise

    yield map_tensors(outputs, lambda tensor: tensor.detach()[rows.to(tensor.device)])
    yield map_tensors(outputs, enlarged)


def check_batch_mean(evaluator: Evaluator, batch: Any) -> None:
    """Refuse a batch loss that is a sum: twice the same samples must not double it.

    Batches whose tensors differ in their number of rows (graphs) cannot be doubled and are taken on trust.
    """
    rows = {len(tensor) if tensor.ndim else 0 for tensor in tensors_in(batch)}
    if len(rows) != 1 or rows == {0}:
        return

    def of_chunk(placed: Any, weights: Tensor | None) -> tuple[float, float]:
        value, n = evaluator.mean_loss(placed)
        return float(value.detach()), n

    def evaluate(given: Any) -> tuple[float, float]:
        return evaluator.on_chunk(
            of_chunk, evaluator.leaves(grad=False), given, grad=evaluator.records_always
        )

    try:
        once = evaluate(batch)
        twice = evaluate(map_tensors(batch, lambda tensor: torch.cat([tensor, tensor])))
    except Exception:  # a batch of another size need not be possible
        return
    if once[0] and all(abs(two - 2 * one) <= 1e-3 * abs(one) for one, two in zip(once, twice, strict=True)):
        raise InputError(
            f"batch_loss must return the mean over the batch, the same samples twice give {twice[0]:.6g} in place of "
            f"{once[0]:.6g}; use reduction='mean'"
        )


def _short(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
