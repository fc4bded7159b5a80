"""The moving average of the weights: its values, what is evaluated, and where a run ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpscope.training import evaluate, train
from training.small_runs import bits, classification, config, noisy_network, perceptron, timeless
from training.test_resume import after


def states_of(run: Any, model: nn.Module) -> list[dict[str, torch.Tensor]]:
    """Return the weights at the beginning and after every step of the same run without an average."""
    states = [{name: value.double().clone() for name, value in model.state_dict().items()}]

    class Recording(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            states.append({name: value.double().clone() for name, value in model.state_dict().items()})
            return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sharpscope.training.run_state.build_optimizer", lambda c, p, m: Recording(p, lr=c.lr))
        train(run, classification(), model)
    return states


def test_a_finished_run_has_the_average_of_its_steps_weights() -> None:
    run = config(ema_decay=0.8, stop={"epochs": 2}, dtype="float64")
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # the same order and dropout, so the same run, without the average
        patch.setattr("sharpscope.training.averaging.WeightAverage.publish", lambda self: None)
        states = states_of(run, noisy_network())
    mean = states[0]
    for state in states[1:]:
        mean = {name: 0.8 * mean[name] + 0.2 * state[name] for name in mean}
    model, data = noisy_network(), classification()
    outcome = train(run, data, model)
    for name, value in model.state_dict().items():
        if value.is_floating_point():  # running statistics are averaged as well
            torch.testing.assert_close(value, mean[name], rtol=1e-9, atol=1e-9)
        else:
            assert value == 14
    loss, accuracy = evaluate(model, data.to("cpu", torch.float64).test, "cross_entropy")
    assert (outcome.final["test_loss"], outcome.final["test_accuracy"]) == (loss, accuracy)


def test_training_goes_on_from_the_last_weights_and_watchers_see_the_average() -> None:
    run, seen = config(ema_decay=0.9, batch_size="full"), []
    model, twin = perceptron(), perceptron()
    outcome = train(run, classification(), model, on_epoch=lambda row: seen.append((row, bits(model))))
    train(config(batch_size="full"), classification(), twin)  # in one batch the order does not matter
    assert [row["epoch_loss"] for row, _ in seen] == [
        row["epoch_loss"] for row in train(config(batch_size="full"), classification(), perceptron()).history
    ]
    assert bits(model) == seen[-1][1] != bits(twin)
    assert outcome.history[-1]["train_loss"] == evaluate(model, classification().train, "cross_entropy")[0]


def test_a_stopping_rule_looks_at_the_average(tmp_path: Path) -> None:
    """It lags behind the weights, so the run takes longer; a finished run resumes with its average."""
    stop = {"epochs": 80, "train_loss": 0.6}
    plain = train(config(stop=stop), classification(), perceptron())
    run, model = config(stop=stop, ema_decay=0.95), perceptron()
    outcome = train(run, classification(), model, workspace=tmp_path, checkpoint_every_s=0)
    assert plain.stop_reason == outcome.stop_reason == "train_loss"
    assert outcome.epochs > plain.epochs
    again = perceptron(seed=7)
    assert timeless(train(run, classification(), again, workspace=tmp_path).history) == timeless(
        outcome.history
    )
    assert bits(again) == bits(model)


def test_a_run_that_diverges_ends_with_its_own_weights_and_the_same_on_resumption(tmp_path: Path) -> None:
    def linear() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Linear(6, 3)

    options = {
        "optimizer": {"name": "sgd", "lr": 0.1, "options": {"weight_decay": 1000.0}},
        "stop": {"epochs": 50},
    }
    run = config(**options, ema_decay=0.999999)
    model = linear()
    expected = train(run, classification(), model)
    assert expected.status == "diverged"
    assert not all(p.isfinite().all() for p in model.parameters())
    assert set(expected.final.values()) == {None}
    attempts = 0
    while True:
        attempts += 1
        again = linear()
        outcome = train(run, classification(), again, workspace=tmp_path, should_stop=after(3))
        if outcome.status != "interrupted":
            break
    assert attempts > 2
    assert timeless(outcome.history) == timeless(expected.history)
    assert bits(again) == bits(model)
