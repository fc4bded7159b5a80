"""λ_max of all the data from a part of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sharpscope import InputError, Objective
from sharpscope.curvature import lambda_max_from_sample


def _heavy_tailed(trial: int) -> tuple[Objective, float]:
    rng = np.random.default_rng(trial)
    x = rng.standard_t(5, size=(3000, 12)) * np.sqrt(np.concatenate([[2.0, 1.8], rng.gamma(1.0, 0.5, 10)]))
    model = nn.Linear(12, 1, bias=False).double()
    data = torch.as_tensor(x), torch.zeros(3000, 1, dtype=torch.float64)
    obj = Objective(model, lambda o, t: 0.5 * (o - t).square().mean(), data)
    return obj, float(np.linalg.eigvalsh(x.T @ x / 3000)[-1])


def test_the_interval_covers_the_value_over_all_the_data() -> None:
    covered = between = 0
    width = []
    for trial in range(60):
        obj, truth = _heavy_tailed(trial)
        found = lambda_max_from_sample(obj, 400, seed=trial)
        low, high = found.interval(0.95)
        covered += low <= truth <= high
        between += found.below[0] < found.above[0]
        width.append((high - low) / truth)
    assert np.median(width) < 0.6  # and it says something
    assert covered >= 56
    assert between >= 57


def test_its_own_value_is_biased_upwards_and_the_crossed_one_downwards() -> None:
    found = [
        (lambda_max_from_sample(obj, 200, seed=7), truth) for obj, truth in map(_heavy_tailed, range(20))
    ]
    assert np.mean([f.above[0] - truth for f, truth in found]) > 0
    assert np.mean([f.below[0] - truth for f, truth in found]) < 0


def test_same_seed_same_numbers() -> None:
    obj, _ = _heavy_tailed(0)
    first, second = (lambda_max_from_sample(obj, 300, seed=3) for _ in range(2))
    assert (first.below, first.above) == (second.below, second.above)
    assert first.value != lambda_max_from_sample(obj, 300, seed=4).value
    assert first.fingerprint == obj.fingerprint


@pytest.mark.parametrize("samples", [79, 3001])
def test_too_few_and_too_many_are_refused(samples: int) -> None:
    with pytest.raises(InputError, match=f"between 80 and the 3000 there are, received {samples}"):
        lambda_max_from_sample(_heavy_tailed(0)[0], samples)


def test_samples_that_interact_are_refused() -> None:
    obj, _ = _heavy_tailed(0)
    whole = Objective(obj.model, nn.functional.mse_loss, next(iter(obj.evaluator.batches)), mode="train")
    with pytest.raises(InputError, match="samples that do not interact"):
        lambda_max_from_sample(whole, 100)
