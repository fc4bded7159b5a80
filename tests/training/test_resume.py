"""A run stopped anywhere, by asking or by force, ends with the bits of one that never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpscope.data import Split
from sharpscope.errors import CheckpointError
from sharpscope.seeding import generator
from sharpscope.training import RunConfig, TrainingOutcome, read_metadata, train
from sharpscope.training.optimizers import optimizer_classes
from training.small_runs import bits, classification, config, noisy_network, perceptron, timeless

SETTINGS: dict[str, dict[str, Any]] = {
    "momentum": {
        "optimizer": {
            "name": "sgd",
            "lr": 0.1,
            "options": {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
        },
        "schedule": {"kind": "multistep", "milestones": [1, 2], "gamma": 0.3},
    },
    "adagrad": {"optimizer": {"name": "adagrad", "lr": 0.05, "options": {"lr_decay": 0.1}}},
    "adam": {"optimizer": {"name": "adam", "lr": 0.01}, "schedule": {"kind": "cosine"}, "dtype": "float64"},
    "sam": {"optimizer": {"name": "sam", "lr": 0.1, "options": {"rho": 0.1, "momentum": 0.9}}},
    "asam": {
        "optimizer": {"name": "asam", "lr": 0.01, "options": {"base": "adamw", "rescale": "weights"}},
        "schedule": {"kind": "cosine"},
    },
    "everything": {
        "optimizer": {"name": "sam", "lr": 0.2, "options": {"rho": 0.1, "momentum": 0.9}},
        "schedule": {"kind": "cosine", "warmup": 2},
        "rho_schedule": {"kind": "constant", "warmup": 3},
        "clip_norm": 0.5,
        "label_smoothing": 0.2,
        "ema_decay": 0.9,
        "evaluate_every": 2,
    },
    "one cycle": {"schedule": {"kind": "one_cycle"}, "ema_decay": 0.5, "clip_norm": 0.1},
    "within": {"stop": {"epochs": 9, "train_loss": 1.0, "look_every": 2}, "ema_decay": 0.5},
}


def after(steps: int) -> Any:
    """A request to stop that comes after so many steps."""
    left = [steps]

    def should_stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    return should_stop


def in_pieces(
    run: RunConfig, workspace: Path, steps: int, build: Any = noisy_network
) -> tuple[TrainingOutcome, Any]:
    """Train by attempts of so many steps, each in a new model, until the run is over."""
    for attempt in range(1000):
        model = build(seed=attempt)  # only the first attempt's weights may matter
        outcome = train(run, classification(), model, workspace=workspace, should_stop=after(steps))
        if outcome.status != "interrupted":
            return outcome, model
        assert outcome.stop_reason == "interrupted"
        assert set(outcome.final.values()) == {None}
    raise AssertionError("the run does not end")


@pytest.mark.parametrize("steps", [1, 3, 7, 10])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_in_pieces_equals_a_run_in_one(setting: str, steps: int, tmp_path: Path) -> None:
    """Seven steps an epoch, the last of 5 samples: pieces end within epochs and exactly between them."""
    run = config(**SETTINGS[setting])
    whole = noisy_network()
    expected = train(run, classification(), whole)
    outcome, model = in_pieces(run, tmp_path, steps)
    assert bits(model) == bits(whole)
    assert timeless(outcome.history) == timeless(expected.history)
    assert (outcome.status, outcome.final) == ("finished", expected.final)
    assert outcome.stop_reason == expected.stop_reason == ("train_loss" if setting == "within" else "epochs")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in optimizer_classes() if name != "muon"])
def test_every_optimizer_resumes_exactly(name: str, dtype: str, tmp_path: Path) -> None:
    """Including those whose float32 accumulators torch would widen beside float64 weights."""
    run = config(optimizer={"name": name, "lr": 0.01}, dtype=dtype, stop={"epochs": 2})
    whole = perceptron()
    expected = train(run, classification(), whole)
    outcome, model = in_pieces(run, tmp_path, 4, perceptron)
    assert bits(model) == bits(whole)
    assert timeless(outcome.history) == timeless(expected.history)


def test_muon_takes_matrices(tmp_path: Path) -> None:
    def matrices(seed: int = 0) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False))

    run = config(optimizer={"name": "muon", "lr": 0.01}, stop={"epochs": 2})
    whole = matrices()
    train(run, classification(), whole)
    assert bits(in_pieces(run, tmp_path, 4, matrices)[1]) == bits(whole)


def test_tied_weights_resume_exactly(tmp_path: Path) -> None:
    def tied(seed: int = 0) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
            model[2].weight = model[0].weight
            return model

    run = config(optimizer={"name": "sgd", "lr": 0.1, "options": {"momentum": 0.9}})
    whole = tied()
    train(run, classification(), whole)
    model = in_pieces(run, tmp_path, 5, tied)[1]
    assert bits(model) == bits(whole)
    assert model[0].weight is model[2].weight


@pytest.mark.parametrize("name", ["sgd", "adam", "sam", "lbfgs"])
def test_convolutions_resume_exactly(name: str, tmp_path: Path) -> None:
    """In channels-last memory, momentum included, augmented (by a seed of its own or the run's) and averaged."""

    def convolutional(seed: int = 0) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(2, 8, 3),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 4, (2, 3)),
                nn.Flatten(),
                nn.Linear(8, 3),
            )

    grey = classification()
    data = replace(
        grey, train=Split(torch.randn(53, 2, 5, 5, generator=generator("grey")), grey.train.targets),
        test=Split(torch.randn(17, 2, 5, 5, generator=generator("grey test")), grey.test.targets), validation=None,
    )  # fmt: skip
    optimizer = {"name": name, "lr": 0.01, "options": {"momentum": 0.9} if name in ("sgd", "sam") else {}}
    augmentation = {"names": ["flip", "crop"], "padding": 1, "seed": 5 if name == "sam" else None}
    run = config(optimizer=optimizer, augmentation=augmentation, stop={"epochs": 2}, ema_decay=0.7)
    whole = convolutional()
    expected = train(run, data, whole)
    for attempt in range(50):
        model = convolutional(seed=attempt)
        outcome = train(run, data, model, workspace=tmp_path, should_stop=after(3))
        if outcome.status != "interrupted":
            break
    assert attempt > 2
    assert all(p.is_contiguous() for p in model.parameters())
    assert bits(model) == bits(whole)
    assert timeless(outcome.history) == timeless(expected.history)


def test_a_diverging_run_diverges_in_the_same_epoch(tmp_path: Path) -> None:
    def linear(seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Linear(6, 3)

    run = config(
        optimizer={"name": "sgd", "lr": 0.1, "options": {"weight_decay": 1000.0}}, stop={"epochs": 50}
    )
    expected = train(run, classification(), linear())
    outcome = in_pieces(run, tmp_path, 3, linear)[0]
    assert expected.status == outcome.status == "diverged"
    assert timeless(outcome.history) == timeless(expected.history)
    assert expected.epochs > 1


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, second = noisy_network(), noisy_network(seed=9)
    expected = train(config(), classification(), first, workspace=tmp_path, checkpoint_every_s=0)
    epochs: list[Any] = []
    outcome = train(config(), classification(), second, workspace=tmp_path, on_epoch=epochs.append)
    assert epochs == []
    assert outcome == expected
    assert bits(second) == bits(first)


def test_being_asked_before_the_first_step_keeps_the_initial_weights(tmp_path: Path) -> None:
    model, initial = noisy_network(), bits(noisy_network())
    outcome = train(config(), classification(), model, workspace=tmp_path, should_stop=lambda: True)
    assert (outcome.status, outcome.epochs, outcome.history) == ("interrupted", 0, [])
    assert bits(model) == initial


def test_without_a_workspace_a_run_can_be_interrupted_too() -> None:
    outcome = train(config(), classification(), noisy_network(), should_stop=after(9))
    assert (outcome.status, outcome.epochs) == ("interrupted", 1)


def test_saving_while_training_changes_nothing(tmp_path: Path) -> None:
    quiet, busy = noisy_network(), noisy_network()
    train(config(), classification(), quiet)
    train(config(), classification(), busy, workspace=tmp_path, checkpoint_every_s=0)
    assert bits(busy) == bits(quiet)
    assert os.listdir(tmp_path) == ["progress.safetensors"]


def test_time_spent_before_an_interruption_counts(tmp_path: Path) -> None:
    def slowly() -> Any:
        stop = after(3)

        def should_stop() -> bool:
            time.sleep(0.03)
            return bool(stop())

        return should_stop

    run = config(stop={"epochs": 1})
    train(run, classification(), noisy_network(), workspace=tmp_path, should_stop=slowly())
    outcome = train(run, classification(), noisy_network(), workspace=tmp_path)
    assert outcome.history[0]["seconds"] > 0.09


def test_another_runs_workspace_is_refused(tmp_path: Path) -> None:
    train(config(), classification(), noisy_network(), workspace=tmp_path, should_stop=after(2))
    other = config(seed=1)
    with pytest.raises(CheckpointError, match=f"belongs to run {config().run_id()}, not to {other.run_id()}"):
        train(other, classification(), noisy_network(), workspace=tmp_path)


def test_a_damaged_workspace_is_refused(tmp_path: Path) -> None:
    train(config(), classification(), noisy_network(), workspace=tmp_path, should_stop=after(2))
    file = tmp_path / "progress.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        train(config(), classification(), noisy_network(), workspace=tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(CheckpointError, match="is a folder"):
        train(config(), classification(), noisy_network(), workspace=tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot be made"):
        train(config(), classification(), noisy_network(), workspace=blocked)


CHILD = """
import sys, json
from pathlib import Path
from training.small_runs import classification, noisy_network
from sharpscope.training import RunConfig, save_checkpoint, train
run, workspace, result = RunConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
model = noisy_network()
asked = []
def should_stop():
    if not asked:
        print("first step", flush=True)
    asked.append(1)
    return False
outcome = train(
    run, classification(), model, workspace=workspace, checkpoint_every_s=0, should_stop=should_stop
)
save_checkpoint(result, model, metadata={"history": outcome.history})
"""


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL, in training and in the middle of writing: the child saves before every single step."""
    run = config(
        optimizer={"name": "adam", "lr": 0.01, "options": {"amsgrad": True}},
        schedule={"kind": "every", "n": 5, "gamma": 0.7},
        stop={"epochs": 25},
    )
    workspace, result = tmp_path / "workspace", tmp_path / "result.safetensors"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    command = [sys.executable, "-c", CHILD, run.canonical_json(), str(workspace), str(result)]
    chance = random.Random(3)
    kills, reached = 0, [0]
    while not result.exists():
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        if kills < 4 or (len(set(reached)) < 4 and kills < 60):  # a busy machine takes fewer steps between
            time.sleep(chance.uniform(0.0, 0.1))
            child.send_signal(signal.SIGKILL)
        child.wait(timeout=120)
        child.stdout.close()
        kills += child.returncode == -signal.SIGKILL
        assert child.returncode in (0, -signal.SIGKILL)
        saved = workspace / "progress.safetensors"
        if saved.exists():  # and then it can be read, whatever the moment of the kill
            progress = read_metadata(saved)["progress"]
            reached.append(7 * len(progress["history"]) + progress["step"])
    assert kills >= 4
    assert os.listdir(workspace) == ["progress.safetensors"]
    assert reached == sorted(reached)
    assert len(set(reached)) >= 4  # the kills fell at different steps

    whole = noisy_network()
    expected = train(run, classification(), whole)
    from safetensors.torch import load_file

    ended = load_file(result)
    assert {name: ended[f"model.{name}"].numpy().tobytes() for name in whole.state_dict()} == bits(whole)
    assert timeless(read_metadata(result)["history"]) == timeless(json.loads(json.dumps(expected.history)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_run_in_pieces_equals_a_run_in_one(tmp_path: Path) -> None:
    run = config(optimizer={"name": "adam", "lr": 0.01})
    whole, model = noisy_network(), noisy_network()
    expected = train(run, classification(), whole, device="cuda")
    stop = after(9)
    train(run, classification(), model, device="cuda", workspace=tmp_path, should_stop=stop)
    model = noisy_network(seed=1)
    outcome = train(run, classification(), model, device="cuda", workspace=tmp_path)
    assert bits(model.cpu()) == bits(whole.cpu())
    assert timeless(outcome.history) == timeless(expected.history)
