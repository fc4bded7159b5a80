"""The mean loss of weighted samples, and what a batch loss may return."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sharpscope.errors import InputError
from sharpscope.objective.mean_loss import WeightedMean, checked_batch_loss


def test_weights_count_samples_as_often_as_they_say() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(7, 3, dtype=torch.float64), torch.randint(3, (7,))
    weights = torch.tensor([2, 2, 1, 1, 1, 5, 2], dtype=torch.float64)
    mean = WeightedMean(F.cross_entropy, targets, weights)
    repeated = weights.long()
    expected = F.cross_entropy(outputs.repeat_interleave(repeated, 0), targets.repeat_interleave(repeated))
    torch.testing.assert_close(mean(outputs), expected)
    assert mean.weight == 14
    assert len(mean.runs) == 4
    assert WeightedMean(F.cross_entropy, targets)(outputs) == F.cross_entropy(outputs, targets)
    assert WeightedMean(F.cross_entropy, targets).weight == 7


@pytest.mark.parametrize(
    ("value", "sentence"), [(3.0, "float"), (torch.ones(2), r"shape \(2,\)"), (None, "None")]
)
def test_a_loss_must_be_one_number(value: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        checked_batch_loss(value, 3)


@pytest.mark.parametrize("n", [0, -1, float("nan"), float("inf"), None, "3"])
def test_a_weight_must_be_positive_and_finite(n: Any) -> None:
    with pytest.raises(InputError, match="n_samples > 0"):
        checked_batch_loss(torch.ones(()), n)


def test_one_number_of_any_shape_is_a_scalar() -> None:
    value, n = checked_batch_loss(torch.ones(1, 1), 3)
    assert value.shape == ()
    assert n == 3.0
