"""Climbs on several batches, each after the other or, where that is faster, in step: one batched pass for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from sharpscope.errors import NonFiniteError
from sharpscope.measures.perturbation.batched import fit_together, gradients_together, group_size
from sharpscope.measures.perturbation.climb import Answer, Climb, Question
from sharpscope.objective.objective import Objective


def results_of(climbs: Iterable[tuple[Objective, Climb]], centre: Tensor) -> Iterator[tuple[float, float]]:
    """Yield (loss at the start, highest loss) of each climb on its own objective, in order.

    ``centre`` (size,) is what perturbations are added to. Climbs on small networks over equally large batches ask
    their questions together; the answers then differ from single ones in rounding only.
    """
    climbs = iter(climbs)
    for first in climbs:
        more = islice(climbs, group_size(first[0]) - 1 if fit_together(first[0]) else 0)
        yield from _in_step([first, *more], centre)


def _in_step(climbs: list[tuple[Objective, Climb]], centre: Tensor) -> list[tuple[float, float]]:
    results: dict[int, tuple[float, float]] = {}
    asked = {number: next(climb) for number, (_, climb) in enumerate(climbs)}
    while asked:
        numbers = list(asked)
        answers = _answers([climbs[n][0] for n in numbers], list(asked.values()), centre)
        asked = {}
        for number, answer in zip(numbers, answers, strict=True):
            try:
                asked[number] = climbs[number][1].send(answer)
            except StopIteration as end:
                results[number] = end.value
    return [results[number] for number in range(len(climbs))]


def _answers(parts: list[Objective], questions: list[Question], centre: Tensor) -> list[Answer]:
    if len(parts) > 1:
        found = gradients_together(parts, torch.stack([centre + delta for delta, _ in questions]))
        if found is not None:
            return found
    return [
        _answer(part, delta, slope, centre) for part, (delta, slope) in zip(parts, questions, strict=True)
    ]


def _answer(part: Objective, delta: Tensor, slope: bool, centre: Tensor) -> Answer:
    if not slope:
        return part.loss(centre + delta), torch.zeros_like(delta)
    try:
        return part.loss_and_gradient(centre + delta)
    except NonFiniteError:
        return float("inf"), torch.zeros_like(delta)
