"""Runs that train at the same time: each ends with the bits it has alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpscope.errors import InputError
from sharpscope.models import build
from sharpscope.seeding import generator
from sharpscope.training import RunConfig, TrainingOutcome, group_key, train, train_together, weight_seed
from sharpscope.training.engines import direct
from sharpscope.training.engines.agreement import agrees
from training.small_runs import bits, classification, config, noisy_network, perceptron, regression, timeless
from training.test_resume import after


def family(**changes: Any) -> list[RunConfig]:
    """Runs of two seeds, rates, decays and lengths; uneven in everything that may differ."""
    numbers = [(0, 0.1, 0.0, 3), (1, 0.1, 0.01, 2), (0, 0.03, 0.0, 4), (2, 0.2, 0.1, 1)]
    return [
        config(
            **{
                "optimizer": {"name": "sgd", "lr": lr, "options": {"momentum": 0.5, "weight_decay": decay}},
                "seed": seed,
                "stop": {"epochs": epochs},
                **changes,
            }
        )
        for seed, lr, decay, epochs in numbers
    ]


def mlp(run: RunConfig, **options: Any) -> nn.Module:
    return build("mlp", classification(), weight_seed(run), **{"hidden": [9, 7], **options})


def alone(runs: list[RunConfig], models: list[nn.Module], data: Any = None) -> list[TrainingOutcome]:
    return [train(run, data or classification(), model) for run, model in zip(runs, models, strict=True)]


def assert_same(
    found: list[TrainingOutcome], models: list[Any], expected: list[TrainingOutcome], twins: list[Any]
) -> None:
    for ours, model, theirs, twin in zip(found, models, expected, twins, strict=True):
        assert bits(model) == bits(twin)
        assert timeless(ours.history) == timeless(theirs.history)
        assert (ours.status, ours.stop_reason, ours.final) == (
            theirs.status,
            theirs.stop_reason,
            theirs.final,
        )


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "relu": {},
    "tanh, normalised, dropout": {"activation": "tanh", "batch_norm": "hidden", "dropout": 0.3},
    "gelu, normalised outputs": {"activation": "gelu", "batch_norm": "output", "hidden": [16]},
    "elu throughout": {"activation": "elu", "output_activation": True, "dropout": 0.1},
    "linear": {"hidden": []},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_together_alone_and_by_autograd_give_the_same_bits(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = family(dtype=dtype)
    together, single, plain = ([mlp(run, **ARCHITECTURES[name]) for run in runs] for _ in range(3))
    found = train_together(runs, classification(), together)
    expected = alone(runs, single)
    assert_same(found, together, expected, single)
    assert [outcome.epochs for outcome in found] == [3, 2, 4, 1]
    monkeypatch.setattr(direct, "takes", lambda member: False)
    assert_same(found, together, alone(runs, plain), plain)


@pytest.mark.parametrize("name", ["adam", "adagrad", "rmsprop", "nadam"])
def test_any_optimizer_may_train_in_company(name: str) -> None:
    numbers = [(0, 0.01), (1, 0.01), (0, 0.05)]
    runs = [config(optimizer={"name": name, "lr": lr}, seed=seed) for seed, lr in numbers]
    models, twins = [mlp(run) for run in runs], [mlp(run) for run in runs]
    assert_same(train_together(runs, classification(), models), models, alone(runs, twins), twins)


@pytest.mark.parametrize("batch_size", [1, 7, "full"])
def test_batches_of_every_kind(batch_size: Any) -> None:
    runs = family(batch_size=batch_size)
    models, twins = [mlp(run) for run in runs], [mlp(run) for run in runs]
    assert_same(train_together(runs, classification(), models), models, alone(runs, twins), twins)


def test_other_models_train_in_company_too() -> None:
    """Branches, sums and hooks are beyond the written-out perceptrons; sharpness-aware steps as well."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = noisy_network(), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.inner(x) + self.outer(x)
            return out

    with torch.random.fork_rng():
        torch.manual_seed(0)
        make = Residual()
    for optimizer in ("sgd", "sam"):
        runs = [config(optimizer={"name": optimizer, "lr": lr}) for lr in (0.1, 0.2)]
        models = [Residual() for _ in runs]
        twins = [Residual() for _ in runs]
        for model in (*models, *twins):
            model.load_state_dict(make.state_dict())
        assert_same(train_together(runs, classification(), models), models, alone(runs, twins), twins)


def test_regressions_train_in_company() -> None:
    runs = [config(data="abalone", optimizer={"name": "sgd", "lr": lr}) for lr in (0.01, 0.02, 0.03)]
    models, twins = ([perceptron(seed=5, inputs=4, outputs=1) for _ in runs] for _ in range(2))
    found = train_together(runs, regression(), models)
    assert_same(found, models, alone(runs, twins, regression()), twins)


def test_one_that_diverges_leaves_the_others_alone() -> None:
    """53 samples, one a step: the loss is looked at in the middle of the epoch, when one is lost already."""
    rates = (0.01, 1e12, 0.02)
    runs = [config(optimizer={"name": "sgd", "lr": lr}, batch_size=1, data="abalone") for lr in rates]
    data = regression(53)
    models, twins = ([perceptron(seed=5, inputs=4, outputs=1) for _ in runs] for _ in range(2))
    found = train_together(runs, data, models)
    assert [outcome.status for outcome in found] == ["finished", "diverged", "finished"]
    assert found[1].epochs == 1
    assert not models[1][0].weight.isfinite().all()
    assert_same(found, models, alone(runs, twins, data), twins)


def test_every_epoch_is_told_with_the_number_of_its_run() -> None:
    told: list[tuple[int, int]] = []
    runs = family()
    train_together(
        runs,
        classification(),
        [mlp(run) for run in runs],
        on_epoch=lambda i, row: told.append((i, row["epoch"])),
    )
    assert told == [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (1, 2), (2, 2), (0, 3), (2, 3), (2, 4)]


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_interrupted_anywhere_they_end_with_the_same_bits(steps: int, tmp_path: Path) -> None:
    runs, options = family(), {"dropout": 0.2, "batch_norm": "hidden"}
    twins = [mlp(run, **options) for run in runs]
    expected = alone(runs, twins)
    for attempt in range(100):
        models = [build("mlp", classification(), attempt, hidden=[9, 7], **options) for _ in runs]
        if attempt == 0:
            models = [mlp(run, **options) for run in runs]
        stop = after(steps)
        found = train_together(runs, classification(), models, workspace=tmp_path, should_stop=stop)
        if all(outcome.status != "interrupted" for outcome in found):
            break
    assert attempt > 1
    assert_same(found, models, expected, twins)


def test_they_go_on_from_different_places_in_other_company(tmp_path: Path) -> None:
    """One alone for a while, two together for another, then all four: epochs and steps differ at the start."""
    runs = family(stop={"epochs": 3})
    twins = [mlp(run) for run in runs]
    expected = alone(runs, twins)
    train(
        runs[0], classification(), mlp(runs[0]), workspace=tmp_path / runs[0].run_id(), should_stop=after(9)
    )
    pair = [mlp(run) for run in runs[1:3]]
    train_together(runs[1:3], classification(), pair, workspace=tmp_path, should_stop=after(4))
    models = [mlp(run) for run in runs]
    found = train_together(runs, classification(), models, workspace=tmp_path)
    assert_same(found, models, expected, twins)


def test_afterwards_no_model_holds_on_to_the_others_memory() -> None:
    runs = family()
    models = [mlp(run) for run in runs]
    train_together(runs, classification(), models)
    for model in models:
        for parameter in model.parameters():
            assert parameter.grad is None
            assert parameter.untyped_storage().nbytes() == parameter.numel() * 4


def test_what_may_train_together() -> None:
    key = group_key(config())
    for alike in (
        {"seed": 3},
        {"optimizer": {"name": "sgd", "lr": 0.7}},
        {"schedule": {"kind": "cosine"}},
        {"stop": {"epochs": 9, "train_accuracy": 0.5}},
    ):
        assert group_key(config(**alike)) == key
    for apart in (
        {"batch_size": 9},
        {"optimizer": {"name": "adam", "lr": 0.1}},
        {"optimizer": {"name": "sgd", "lr": 0.1, "options": {"momentum": 0.9}}},
        {"model": {"name": "mlp", "options": {"hidden": [5]}}},
        {"data": {"name": "digits", "train_samples": 100}},
        {"dtype": "float64"},
        {"drop_last": True},
        {"precision": "bfloat16"},
        {"compile": True},
    ):
        assert group_key(config(**apart)) != key
    sam = [
        config(optimizer={"name": "sam", "lr": 0.1, "options": {"rho": rho, "base": "sgd"}})
        for rho in (0.1, 1)
    ]
    assert group_key(sam[0]) == group_key(sam[1])
    other = config(optimizer={"name": "sam", "lr": 0.1, "options": {"rho": 0.1, "base": "adam"}})
    assert group_key(other) != group_key(sam[0])


def test_what_may_not_is_refused_in_one_sentence() -> None:
    runs = [config(), config(batch_size=9)]
    with pytest.raises(InputError, match=r"differ in nothing but the seed.*one by one"):
        train_together(runs, classification(), [perceptron(), perceptron()])
    with pytest.raises(InputError, match="two of these are the same"):
        train_together([config(), config()], classification(), [perceptron(), perceptron()])
    with pytest.raises(InputError, match="2 runs and 1 models"):
        train_together(family()[:2], classification(), [perceptron()])
    pair = family(batch_size=13)[:2]  # 53 = 4 · 13 + 1
    models = [mlp(run, batch_norm="hidden") for run in pair]
    with pytest.raises(InputError, match="drop_last = true"):
        train_together(pair, classification(), models)


def test_operations_are_shared_where_models_lie_on_boundaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight samples of sixteen numbers are multiples of 64 bytes; the last batch, of five, is not."""
    shared: set[str] = set()

    def watched(name: str, *shape: Any) -> bool:
        found = agrees(name, *shape)
        shared.update([name] if found else [])
        return found

    for user in ("layers", "direct"):
        monkeypatch.setattr(f"sharpscope.training.engines.{user}.agrees", watched)
    data = replace(classification(), n_outputs=16)
    for activation in ("relu", "gelu"):
        runs, options = family(), {"hidden": [16, 16], "activation": activation}
        models, twins = ([build("mlp", data, i, **options) for i, _ in enumerate(runs)] for _ in range(2))
        together = train_together(runs, data, models)
        assert_same(together, models, alone(runs, twins, data), twins)
    assert {"products", "log_softmax"} <= shared


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_said_to_agree_agrees(dtype: torch.dtype, threads: int) -> None:
    """Intel's library sums a batched product of a single output otherwise; whatever it does must be found out."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for k, n, fan_in, fan_out in ((3, 64, 64, 1), (4, 16, 16, 16), (6, 8, 64, 16), (5, 32, 100, 48)):
            shapes = ((n, fan_in), (fan_out, fan_in), (fan_out,), (n, fan_out))
            said = agrees("products", k, shapes, dtype)
            draws = torch.Generator().manual_seed(1)
            x = torch.randn(k, n, fan_in, generator=draws, dtype=dtype)
            w = torch.randn(k, fan_out, fan_in, generator=draws, dtype=dtype)
            whole = torch.bmm(x, w.transpose(1, 2))
            if said:
                assert all(torch.equal(whole[i], x[i] @ w[i].t()) for i in range(k))
    finally:
        torch.set_num_threads(before)


def test_gradient_descent_adds_its_products_to_the_weights() -> None:
    """Without a gradient between: the same numbers up to rounding, and the same bits in company."""
    kind = {
        "optimizer": {"name": "sgd", "lr": 0.1},
        "dtype": "float64",
        "schedule": {"kind": "every", "n": 1, "gamma": 0.5},
    }
    runs = [config(**kind, seed=seed) for seed in range(3)]
    models, twins, plain = ([mlp(run, batch_norm="hidden") for run in runs] for _ in range(3))
    assert_same(train_together(runs, classification(), models), models, alone(runs, twins), twins)
    for run, model, twin in zip(runs, models, plain, strict=True):
        twin.double()
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
        data = classification().to("cpu", torch.float64).train
        for epoch in (1, 2, 3):
            order = torch.randperm(53, generator=generator("order", run.run_id(), epoch))
            for chosen in order.split(8):
                optimizer.zero_grad()
                nn.functional.cross_entropy(twin(data.inputs[chosen]), data.targets[chosen]).backward()
                optimizer.step()
            optimizer.param_groups[0]["lr"] *= 0.5
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
