"""Losses by hand, of one's own, and the loss of a constant answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sharpscope.errors import InputError
from sharpscope.training import evaluate, loss_function, train
from sharpscope.training.losses import constant_loss, smoothed_cross_entropy
from training.own_module import own_module
from training.small_runs import bits, classification, config, perceptron, regression

OWN = """
import torch

def hinge(outputs, targets):
    correct = outputs.gather(1, targets[:, None])
    margins = (1 + outputs - correct).clamp_min(0).sum(1) - 1
    return margins.mean()

class Huber(torch.nn.HuberLoss):
    pass

def each(outputs, targets):
    return (outputs.sum(1) - targets) ** 2

def constant(outputs, targets):
    return torch.tensor(3.0)

def failing(outputs, targets):
    raise RuntimeError("no labels")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from own_module(OWN, tmp_path, monkeypatch)


def test_a_run_trains_and_is_evaluated_with_a_loss_of_ones_own(own: str) -> None:
    run = config(loss=f"{own}:hinge", batch_size="full", stop={"epochs": 1}, dtype="float64")
    model, twin, data = perceptron(), perceptron().double(), classification().to("cpu", torch.float64)
    outcome = train(run, data, model)
    hinge = loss_function(f"{own}:hinge")
    loss = hinge(twin(data.train.inputs), data.train.targets)
    loss.backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)
    assert outcome.history[0]["epoch_loss"] == pytest.approx(loss.item())
    assert outcome.final["test_loss"] == evaluate(model, data.test, hinge)[0]
    assert constant_loss(f"{own}:hinge", data.train.targets) is None


def test_a_class_is_a_loss_too(own: str) -> None:
    outcome = train(
        config(loss=f"{own}:Huber", data="abalone", optimizer={"name": "sgd", "lr": 0.01}),
        regression(),
        perceptron(inputs=4, outputs=1),
    )
    assert outcome.history[-1]["train_loss"] < outcome.history[0]["train_loss"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("each", r"differentiable scalar of real numbers; received shape \(2,\): return losses.mean"),
        ("constant", "differentiable scalar"),
        ("failing", r"raised RuntimeError \(no labels\)"),
        ("absent", "has no 'absent'"),
    ],
)
def test_a_loss_that_is_none_is_refused_before_the_first_step(own: str, name: str, words: str) -> None:
    model, before = perceptron(), bits(perceptron())
    with pytest.raises(InputError, match=words):
        train(config(loss=f"{own}:{name}"), classification(), model)
    assert bits(model) == before


def test_smoothed_labels_by_hand() -> None:
    """Three classes, s = 0.3: the label has 0.7 + 0.1, each other class 0.1."""
    outputs = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, 0.0]], dtype=torch.float64)
    log_p = outputs - outputs.exp().sum(1, keepdim=True).log()
    expected = -((log_p * torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])).sum(1)).mean()
    assert smoothed_cross_entropy(0.3)(outputs, torch.tensor([0, 2])).item() == pytest.approx(expected.item())


def test_steps_are_smoothed_and_evaluations_are_not() -> None:
    run = config(label_smoothing=0.3, batch_size="full", stop={"epochs": 1}, dtype="float64")
    model, twin, data = perceptron(), perceptron().double(), classification().to("cpu", torch.float64)
    outcome = train(run, data, model)
    loss = smoothed_cross_entropy(0.3)(twin(data.train.inputs), data.train.targets)
    loss.backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad)
    assert outcome.history[0]["epoch_loss"] == pytest.approx(loss.item())
    assert outcome.final["train_loss"] == evaluate(model, data.train, "cross_entropy")[0]


def test_numbers_have_no_labels_to_smooth() -> None:
    with pytest.raises(InputError, match="label_smoothing is for classes, and abalone is a regression"):
        train(config(data="abalone", label_smoothing=0.1), regression(), perceptron(inputs=4, outputs=1))


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_the_constant_loss_is_what_training_the_answer_alone_reaches(name: str) -> None:
    draws = torch.Generator().manual_seed(0)
    if name == "mse":
        targets = torch.randn(50, 3, generator=draws, dtype=torch.float64)
    else:
        targets = (
            torch.randint(4, (50,), generator=draws) // 2 * 3
        )  # of classes 0 to 4, 1, 2 and 4 never come
    answer = torch.zeros(3 if name == "mse" else 5, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([answer], max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def closure() -> torch.Tensor:
        descent.zero_grad()
        loss = loss_function(name)(answer.expand(50, -1), targets)
        loss.backward()
        return loss

    descent.step(closure)
    assert closure().item() == pytest.approx(constant_loss(name, targets), abs=1e-4)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(InputError, match=r"one shape.*\(3,\).*\(3, 1\)"):
        loss_function("mse")(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(InputError, match="integer class labels"):
        loss_function("cross_entropy")(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(InputError, match="choose one of cross_entropy, mse"):
        loss_function("hinge")
