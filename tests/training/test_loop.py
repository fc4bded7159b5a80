from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sharpscope.data import Split
from sharpscope.errors import InputError
from sharpscope.optim import SAM
from sharpscope.seeding import generator
from sharpscope.training import evaluate, train
from sharpscope.training.loop import take_step
from sharpscope.training.schedules import learning_rate
from training.small_runs import bits, classification, config, noisy_network, perceptron, regression, timeless
from training.test_resume import after


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


@pytest.mark.parametrize("limit", [0.05, 100.0])
def test_clipping_by_hand(limit: float) -> None:
    """One full step: θ − η g min(1, c / (‖g‖ + 1e-6)), the norm over all weights and biases."""
    data, model, twin = classification(), perceptron(), perceptron().double()
    outcome = train(
        config(batch_size="full", stop={"epochs": 1}, clip_norm=limit, dtype="float64"), data, model
    )
    nn.functional.cross_entropy(twin(data.train.inputs.double()), data.train.targets).backward()
    gradients = [p.grad for p in twin.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    assert 0.1 < norm < 10
    for ours, theirs, g in zip(model.parameters(), twin.parameters(), gradients, strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * g * min(1.0, limit / (norm + 1e-6)))
    assert outcome.status == "finished"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_cannot_be_clipped_ends_the_run_as_diverged(bad: float) -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * bad

    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: Any = Broken.apply(super().forward(x)) if self.training else super().forward(x)
            return out  # type: ignore[no-any-return]

    outcome = train(config(clip_norm=1.0), classification(), Model(6, 3))
    assert outcome.status == "diverged"
    assert outcome.epochs == 1


def test_sam_is_clipped_twice_and_its_ascent_keeps_its_direction() -> None:
    """By hand: ε = ρ g/‖g‖ whatever the limit, then a step with the clipped gradient at θ + ε."""
    data, model, twin = classification(), perceptron(), perceptron().double()
    optimizer = {"name": "sam", "lr": 0.1, "options": {"rho": 0.3}}
    train(
        config(batch_size="full", stop={"epochs": 1}, clip_norm=0.01, optimizer=optimizer, dtype="float64"),
        data,
        model,
    )

    def gradients() -> list[torch.Tensor]:
        loss = nn.functional.cross_entropy(twin(data.train.inputs.double()), data.train.targets)
        return list(torch.autograd.grad(loss, list(twin.parameters())))

    def norm(vectors: list[torch.Tensor]) -> float:
        return math.sqrt(sum(float((v**2).sum()) for v in vectors))

    start, first = [p.detach().clone() for p in twin.parameters()], gradients()
    with torch.no_grad():
        for p, g in zip(twin.parameters(), first, strict=True):
            p += 0.3 * g / norm(first)
    second = gradients()
    for ours, theirs, g in zip(model.parameters(), start, second, strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * g * 0.01 / (norm(second) + 1e-6))


def test_warm_up_and_the_radius_move_step_by_step() -> None:
    """Rates and radii as SAM receives them, over two epochs of seven steps; the history has each epoch's last."""
    seen: list[tuple[float, float]] = []

    class Watching(SAM):
        def step(self, closure: Any = None) -> Any:
            seen.append((self.param_groups[0]["lr"], self.param_groups[0]["sam_rho"]))
            return super().step(closure)

    run = config(
        optimizer={"name": "sam", "lr": 0.14, "options": {"rho": 0.4}},
        schedule={"warmup": 1},
        rho_schedule={"kind": "every", "n": 1, "gamma": 0.5},
        stop={"epochs": 2},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sharpscope.training.run_state.build_optimizer",
            lambda c, p, m: Watching(p, torch.optim.SGD, rho=0.4, lr=c.lr),
        )
        outcome = train(run, classification(), perceptron())
    assert [lr for lr, _ in seen] == pytest.approx([0.02 * min(k, 7) for k in range(1, 15)])
    assert [rho for _, rho in seen] == [0.4] * 7 + [0.2] * 7
    assert [row["lr"] for row in outcome.history] == pytest.approx([0.14, 0.14])


@pytest.mark.parametrize(
    ("stop", "epochs", "evaluated", "reason"),
    [
        ({"epochs": 8}, 8, [3, 6, 8], "epochs"),
        ({"epochs": 99, "train_loss": 0.75}, 6, [3, 6], "train_loss"),
        ({"epochs": 99, "relative_change": 0.5, "min_epochs": 4}, 4, [3, 4], "relative_change"),
    ],
)
def test_evaluating_after_every_third_epoch(
    stop: dict[str, Any], epochs: int, evaluated: list[int], reason: str
) -> None:
    outcome = train(config(stop=stop, evaluate_every=3), classification(), perceptron())
    assert [row["epoch"] for row in outcome.history if row["train_loss"] is not None] == evaluated
    assert all((row["test_accuracy"] is None) == (row["train_loss"] is None) for row in outcome.history)
    assert all(row["epoch_loss"] is not None for row in outcome.history)
    assert (outcome.epochs, outcome.stop_reason, outcome.status) == (epochs, reason, "finished")
    assert None not in outcome.final.values()


def test_a_hopeless_run_is_stopped_without_being_finished() -> None:
    stop = {"epochs": 8, "hopeless": [{"epoch": 2, "train_loss": 1e-9}]}
    outcome = train(config(stop=stop, evaluate_every=3), classification(), perceptron())
    assert (outcome.status, outcome.stop_reason, outcome.epochs) == ("stopped", "hopeless", 2)
    assert outcome.history[-1]["train_loss"] is not None, (
        "evaluated for the look, whatever evaluate_every says"
    )
    assert set(outcome.final.values()) == {None}, "no statistic can take them for the end of a training"
    stop["hopeless"] = [{"epoch": 2, "train_loss": 1e9}]
    assert train(config(stop=stop), classification(), perceptron()).status == "finished"


def test_a_run_ends_within_the_epoch_in_which_its_loss_is_low_enough() -> None:
    """Seven steps an epoch of 53 samples; by hand: training goes on step by step until the loss is below."""
    data, seen = classification(), perceptron()
    stop = {"epochs": 50, "train_loss": 0.9, "look_every": 2}
    outcome = train(config(stop=stop, evaluate_every=100), data, seen)
    assert outcome.epochs == 50, "no epoch before was evaluated, so none is near"
    outcome = train(config(stop=stop), data, seen := perceptron())
    at_ends = train(config(stop={"epochs": 50, "train_loss": 0.9}), data, perceptron())
    assert outcome.stop_reason == "train_loss"
    assert outcome.epochs == at_ends.epochs
    assert at_ends.final["train_loss"] < outcome.final["train_loss"] <= 0.9
    by_hand = perceptron()
    for steps in range(2, 7, 2):
        asked = after(7 * (outcome.epochs - 1) + steps)
        train(config(stop=stop), data, by_hand := perceptron(), should_stop=asked)
        if evaluate(by_hand, data.train, "cross_entropy")[0] <= 0.9:
            break
    assert bits(by_hand) == bits(seen)
    assert outcome.history[-1]["epoch_loss"] != at_ends.history[-1]["epoch_loss"]


def test_one_step_more_is_the_step_that_training_takes() -> None:
    """Interrupted after two epochs of seven steps, and after one step more; with dropout and running statistics."""
    run = config(
        schedule={"kind": "one_cycle"},
        clip_norm=0.05,
        label_smoothing=0.1,
        optimizer={"name": "sam", "lr": 0.1},
    )
    here, there = noisy_network(), noisy_network()
    for model, steps in ((here, 14), (there, 15)):
        assert train(run, classification(), model, should_stop=after(steps)).status == "interrupted"
    assert bits(here) != bits(there)
    take_step(run, classification(), here, 3)
    assert bits(here) == bits(there)


def test_one_cycle_with_a_rule_that_ends_it_early() -> None:
    run = config(schedule={"kind": "one_cycle"}, stop={"epochs": 50, "train_loss": 0.9})
    outcome = train(run, classification(), perceptron())
    assert outcome.stop_reason == "train_loss"
    assert 1 < outcome.epochs < 50
    expected = [learning_rate(run.schedule, 0.1, row["epoch"], 50, 6, 7) for row in outcome.history]
    assert [row["lr"] for row in outcome.history] == expected  # on the way of fifty epochs all along


def test_a_run_is_judged_on_the_whole_test_part_at_its_end() -> None:
    data, model = classification(), perceptron()
    whole = data.test
    sample = replace(data, test=Split(whole.inputs[:4], whole.targets[:4]), whole_test=whole)
    outcome = train(config(), sample, model)
    last = outcome.history[-1]
    assert (last["test_loss"], last["test_accuracy"]) == evaluate(model, sample.test, "cross_entropy")
    expected = evaluate(model, whole, "cross_entropy")
    assert (outcome.final["test_loss"], outcome.final["test_accuracy"]) == expected
    assert outcome.final["test_loss"] != last["test_loss"]
    assert outcome.final["train_loss"] == last["train_loss"]


@pytest.mark.parametrize("options", [{}, {"line_search_fn": "strong_wolfe"}])
def test_lbfgs_calls_its_closure_several_times(options: dict[str, Any]) -> None:
    run = config(
        data="abalone",
        optimizer={"name": "LBFGS", "lr": 1, "options": options},
        batch_size="full",
        stop={"epochs": 5},
        dtype="float64",
    )
    model = nn.Linear(4, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    outcome = train(run, regression(), model)
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
