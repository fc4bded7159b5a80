from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sharpscope.data import Split
from sharpscope.errors import InputError
from sharpscope.training import evaluate
from training.small_runs import bits, noisy_network


def test_chunks_count_by_their_size() -> None:
    """Losses 0, 0, 0, 0, 5² over chunks of 4 and 1: the mean is 5, not (0 + 25)/2."""
    split = Split(torch.zeros(5, 1), torch.tensor([[0.0], [0.0], [0.0], [0.0], [5.0]]))
    assert evaluate(nn.Identity(), split, "mse", batch=4) == (5.0, None)


def test_cross_entropy_and_accuracy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [math.log(3.0), 0.0]], dtype=torch.float64)
    loss, accuracy = evaluate(nn.Identity(), Split(logits, torch.tensor([1, 1, 1])), "cross_entropy", batch=2)
    assert loss == pytest.approx((-math.log(0.75) - math.log(0.5) - math.log(0.25)) / 3, rel=1e-15)
    assert accuracy == 1 / 3  # a tie goes to the first class


def test_the_chunk_size_does_not_matter() -> None:
    model = noisy_network().double()
    inputs = torch.randn(37, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    split = Split(inputs, torch.arange(37) % 3)
    whole = evaluate(model, split, "cross_entropy", batch=37)
    for batch in (1, 5, 36, 1000):
        loss, accuracy = evaluate(model, split, "cross_entropy", batch=batch)
        assert loss == pytest.approx(whole[0], rel=1e-14)
        assert accuracy == whole[1]


def test_evaluating_leaves_the_model_as_it_was() -> None:
    model = noisy_network().train()
    model[1].eval()
    before, modes = bits(model), [module.training for module in model.modules()]
    split = Split(torch.randn(9, 6), torch.zeros(9, dtype=torch.int64))
    evaluate(model, split, "cross_entropy", batch=4)
    assert bits(model) == before
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(InputError):
        evaluate(model, Split(split.inputs, torch.zeros(9, 1)), "cross_entropy")
    assert [module.training for module in model.modules()] == modes


def test_no_samples_no_loss() -> None:
    with pytest.raises(InputError, match="empty"):
        evaluate(nn.Identity(), Split(torch.zeros(0, 1), torch.zeros(0, 1)), "mse")
