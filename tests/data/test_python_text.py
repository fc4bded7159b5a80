"""The texts that Python brings along, as sequences of characters."""

from __future__ import annotations

import pytest
import torch

from sharpscope.data import DataConfig, load
from sharpscope.data.python_text import ALPHABET, CONTEXT
from sharpscope.training.losses import constant_loss, loss_function


@pytest.mark.parametrize(("name", "words"), [("python_manual", "assert"), ("python_source", "argument")])
def test_sequences_are_consecutive_text_and_each_target_is_the_next_character(name: str, words: str) -> None:
    data = load(name)
    inputs, targets = data.train.inputs, data.train.targets
    assert inputs.shape == targets.shape == (len(data.train), CONTEXT)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert int(inputs.min()) >= 0
    assert int(inputs.max()) < data.n_outputs == len(ALPHABET) == 96
    text = "".join(ALPHABET[i] for i in inputs.flatten().tolist())
    assert words in text
    assert (data.samples_are, data.task) == ("tokens", "classification")


def test_parts_share_no_sequence_and_follow_the_seed() -> None:
    data = load(DataConfig(name="python_manual", train_samples=100, test_samples=50))
    again = load(DataConfig(name="python_manual", train_samples=100, test_samples=50))
    other = load(DataConfig(name="python_manual", train_samples=100, subset_seed=1))
    assert torch.equal(data.train.inputs, again.train.inputs)
    assert not torch.equal(data.train.inputs, other.train.inputs)
    train, test = ({tuple(row) for row in part.inputs.tolist()} for part in (data.train, data.test))
    assert len(train & test) <= 2  # rulers and blank lines
    assert "100 of" in data.notes[0]
    assert "SHA-256" in data.notes[-1]


def test_the_loss_of_sequences_is_the_mean_over_characters() -> None:
    outputs, targets = torch.randn(3, 96, 4), torch.randint(96, (3, 4))
    each = [
        float(torch.nn.functional.cross_entropy(outputs[i, :, t][None], targets[i, t][None]))
        for i in range(3)
        for t in range(4)
    ]
    assert loss_function("cross_entropy")(outputs, targets).item() == pytest.approx(sum(each) / 12)
    assert constant_loss("cross_entropy", torch.tensor([[0, 1], [1, 0]])) == pytest.approx(0.6931472)
