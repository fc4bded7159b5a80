from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sharpscope.data import Split
from sharpscope.errors import InputError
from sharpscope.seeding import generator
from sharpscope.training import evaluate, train
from training.small_runs import bits, classification, config, noisy_network, perceptron, regression, timeless


def test_sgd_on_a_line_by_hand() -> None:
    """One weight, no bias, MSE, full batch, rate 0.1: w ← w − 0.1 · mean 2x(wx − y)."""
    inputs, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [4.0]])
    data = replace(
        regression(), n_outputs=1, train=Split(inputs, targets), test=Split(inputs[:1], targets[:1])
    )
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    run = config(data="abalone", batch_size="full", dtype="float64", stop={"epochs": 2})
    outcome = train(run, data, model)
    # gradient (2·1·(w − 1) + 2·2·(2w − 4))/2 = 5w − 9: w = 0, 0.9, 1.35
    assert model.weight.item() == pytest.approx(1.35, rel=1e-15)
    first, second = outcome.history
    assert first["epoch_loss"] == (1 + 16) / 2  # at w = 0, where the epoch's only step started
    assert second["epoch_loss"] == first["train_loss"] == pytest.approx((0.1**2 + 2.2**2) / 2)
    assert second["train_loss"] == pytest.approx((0.35**2 + 1.3**2) / 2)
    assert outcome.final == {
        "train_loss": second["train_loss"],
        "train_accuracy": None,
        "validation_loss": None,
        "validation_accuracy": None,
        "test_loss": pytest.approx(0.35**2),
        "test_accuracy": None,
    }
    assert (outcome.status, outcome.stop_reason, outcome.epochs) == ("finished", "epochs", 2)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_training_agrees_with_a_naive_loop(name: str, drop_last: bool) -> None:
    options = {"momentum": 0.9, "weight_decay": 0.01} if name == "sgd" else {"weight_decay": 0.01}
    run = config(
        optimizer={"name": name, "lr": 0.05, "options": options},
        schedule={"kind": "every", "n": 1, "gamma": 0.5},
        drop_last=drop_last,
        dtype="float64",
    )
    data, model, twin = classification(), perceptron(), perceptron().double()
    outcome = train(run, data, model)

    classes = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam}
    build: Any = classes[name]
    optimizer = build(twin.parameters(), lr=0.05, **options)
    inputs, targets = data.train.inputs.double(), data.train.targets
    for epoch in (1, 2, 3):
        order = torch.randperm(53, generator=generator("order", run.run_id(), epoch)).tolist()
        chunks = [order[k : k + 8] for k in range(0, 53, 8)]  # 6 of 8 and one of 5
        losses, hits = [], 0
        for chunk in chunks[:-1] if drop_last else chunks:
            x, y = torch.stack([inputs[i] for i in chunk]), torch.stack([targets[i] for i in chunk])
            optimizer.zero_grad()
            outputs = twin(x)
            loss = nn.functional.cross_entropy(outputs, y)
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(chunk)
            hits += int((outputs.argmax(1) == y).sum())
        row = outcome.history[epoch - 1]
        assert row["epoch_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-12)
        assert row["epoch_accuracy"] == hits / len(losses)
        assert row["lr"] == 0.05 * 0.5 ** (epoch - 1)
        optimizer.param_groups[0]["lr"] *= 0.5
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert (
        outcome.final["test_loss"] == evaluate(model, data.to("cpu", torch.float64).test, "cross_entropy")[0]
    )


def test_the_history_covers_every_split_and_reports_each_epoch() -> None:
    seen: list[dict[str, Any]] = []
    data, model = classification(), noisy_network()
    outcome = train(config(), data, model, on_epoch=seen.append)
    assert seen == outcome.history
    assert [row["epoch"] for row in seen] == [1, 2, 3]
    assert list(seen[0]) == [
        "epoch", "lr", "epoch_loss", "epoch_accuracy", "train_loss", "train_accuracy",
        "validation_loss", "validation_accuracy", "test_loss", "test_accuracy", "seconds",
    ]  # fmt: skip
    assert all(row[key] is not None for row in seen for key in row)
    assert data.validation is not None
    for name, split in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        assert (seen[-1][f"{name}_loss"], seen[-1][f"{name}_accuracy"]) == evaluate(
            model, split, "cross_entropy"
        )


def test_the_same_configuration_gives_the_same_bits_and_another_seed_does_not() -> None:
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(runs))  # the global generator has no say
        model = noisy_network()
        outcome = train(config(seed=seed), classification(), model)
        runs.append((bits(model), timeless(outcome.history)))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]


def test_training_leaves_the_global_generator_and_settings_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(config(), classification(), noisy_network())
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def test_dropout_differs_from_step_to_step_and_from_epoch_to_epoch() -> None:
    masks: list[bytes] = []

    class Watch(nn.Dropout):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = super().forward(torch.ones(8, 6))
            if self.training:
                masks.append(out.numpy().tobytes())
            return x

    train(config(drop_last=True), classification(), nn.Sequential(Watch(0.5), nn.Linear(6, 3)))
    assert len(masks) == len(set(masks)) == 18


def test_full_batch_is_gradient_descent_in_file_order() -> None:
    data, model, twin = classification(), perceptron(), perceptron()
    train(config(batch_size="full", stop={"epochs": 1}), data, model)
    nn.functional.cross_entropy(twin(data.train.inputs), data.train.targets).backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours.detach(), theirs.detach() - 0.1 * theirs.grad)


@pytest.mark.parametrize("options", [{}, {"line_search_fn": "strong_wolfe"}])
def test_lbfgs_calls_its_closure_several_times(options: dict[str, Any]) -> None:
    run = config(
        data="abalone",
        optimizer={"name": "LBFGS", "lr": 1, "options": options},
        batch_size="full",
        stop={"epochs": 5},
        dtype="float64",
    )
    outcome = train(run, regression(), nn.Linear(4, 1))
    assert outcome.history[0]["epoch_loss"] > 1  # the loss where the step started
    assert outcome.final["train_loss"] is not None
    assert outcome.final["train_loss"] < 1e-10


def test_a_stopping_rule_ends_the_run() -> None:
    run = config(stop={"epochs": 400, "train_accuracy": 0.9}, optimizer={"name": "adam", "lr": 0.05})
    outcome = train(run, classification(), perceptron())
    assert outcome.stop_reason == "train_accuracy"
    accuracies = [row["train_accuracy"] for row in outcome.history]
    assert accuracies[-1] >= 0.9 > max(accuracies[:-1])


def test_a_diverging_loss_is_an_outcome_with_its_epoch() -> None:
    run = config(data="abalone", optimizer={"name": "sgd", "lr": 10.0}, stop={"epochs": 500})
    outcome = train(run, regression(), nn.Linear(4, 1))
    assert (outcome.status, outcome.stop_reason) == ("diverged", "non_finite_loss")
    assert 1 < outcome.epochs == len(outcome.history) < 100
    assert set(outcome.final.values()) == {None}
    last, before = outcome.history[-1], outcome.history[-2]
    assert last["epoch"] == outcome.epochs
    assert last["train_loss"] is None
    assert math.isfinite(before["train_loss"])


def test_a_nan_from_the_first_step_is_noticed() -> None:
    model = perceptron()
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    outcome = train(config(), classification(), model)
    assert (outcome.status, outcome.stop_reason, outcome.epochs) == ("diverged", "non_finite_loss", 1)
    assert outcome.history[0]["epoch_loss"] is None


def test_weights_that_overflow_in_the_last_step_are_noticed() -> None:
    run = config(
        data="abalone",
        optimizer={"name": "sgd", "lr": 1e308},
        batch_size="full",
        dtype="float64",
        stop={"epochs": 1},
    )
    data = regression()
    data = replace(data, train=Split(data.train.inputs * 10, data.train.targets * 10))
    outcome = train(run, data, nn.Linear(4, 1))
    assert (outcome.status, outcome.stop_reason, outcome.epochs) == ("diverged", "non_finite_weights", 1)
    assert math.isfinite(outcome.history[0]["epoch_loss"])
    assert outcome.history[0]["train_loss"] is None


def test_frozen_parameters_stay() -> None:
    model = perceptron()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    train(
        config(optimizer={"name": "sgd", "lr": 0.1, "options": {"weight_decay": 0.1}}),
        classification(),
        model,
    )
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"batch_size": 54}, r'53 samples; received batch_size = 54: use batch_size = "full"'),
        ({"loss": "mse"}, "mse does not fit digits, a classification; use cross_entropy"),
        ({"data": "cora"}, "configured for cora; received the data set digits"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(changes: dict[str, Any], match: str) -> None:
    model = perceptron()
    before = bits(model)
    with pytest.raises(InputError, match=match):
        train(config(**changes), classification(), model)
    assert bits(model) == before


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"must return \(n, 3\); Linear returned shape \(2, 4\) for 2 samples"
    ):
        train(config(), classification(), nn.Linear(6, 4))
    with pytest.raises(InputError, match=r"must return \(n, 1\).*shape \(2,\)"):
        train(config(data="abalone"), regression(), nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)))
    with pytest.raises(InputError, match="requires a gradient"):
        train(config(), classification(), perceptron().requires_grad_(False))
    with pytest.raises(InputError, match="muon does not take"):
        train(config(optimizer={"name": "muon", "lr": 0.1}), classification(), perceptron())


def test_a_regression_cannot_wait_for_an_accuracy() -> None:
    run = config(data="abalone", stop={"epochs": 3, "train_accuracy": 0.9})
    with pytest.raises(InputError, match="no accuracy"):
        train(run, regression(), nn.Linear(4, 1))


def test_batch_normalisation_of_a_single_sample_is_explained() -> None:
    with pytest.raises(InputError, match="drop_last = true"):
        train(config(batch_size=13), classification(), noisy_network())  # 53 = 4 · 13 + 1
    assert (
        train(config(batch_size=13, drop_last=True), classification(), noisy_network()).status == "finished"
    )
