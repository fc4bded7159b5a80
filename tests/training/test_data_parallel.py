"""Ranks train one run together: the result of one process but for rounding, the same bits on every rank."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ranks import run
from sharpscope.errors import InputError, RanksError
from sharpscope.training import train
from sharpscope.training.data_parallel import refuse_unlike_alone
from training.small_runs import bits, classification, config, noisy_network, perceptron, regression

RUNS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": {"name": "sgd", "lr": 0.1, "options": {"momentum": 0.9}}, "clip_norm": 1.0},
    "sam": {"optimizer": {"name": "sam", "lr": 0.1, "options": {"rho": 0.05}}, "label_smoothing": 0.1},
    "lbfgs": {"optimizer": {"name": "lbfgs", "lr": 0.3}, "batch_size": "full"},
    "one sample more than ranks": {"batch_size": 4, "ema_decay": 0.9},  # 53 samples: a last batch of one
}


def outcome_of(name: str, **options: Any) -> dict[str, Any]:
    model = perceptron()
    outcome = train(config(dtype="float64", **RUNS[name]), classification(), model, **options)
    losses = [row[key] for row in outcome.history for key in ("epoch_loss", "epoch_accuracy", "test_loss")]
    weights = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).tolist()
    digest = hashlib.sha256(b"".join(bits(model).values())).hexdigest()
    return {"status": outcome.status, "losses": losses, "weights": weights, "bits": digest}


def on_a_rank(rank: int, workspace: str) -> dict[str, Any]:
    group = torch.distributed.group.WORLD
    found = {name: outcome_of(name, group=group) for name in RUNS}
    asked = iter(range(1000))
    stop = lambda: rank == 0 and next(asked) == 9  # noqa: E731  # rank 1 is never asked to stop by itself
    kept = {"group": group, "workspace": Path(workspace), "checkpoint_every_s": 0.0}
    found["interrupted"] = outcome_of("sgd", should_stop=stop, **kept)
    torch.distributed.barrier()  # rank 0 has saved
    found["resumed"] = outcome_of("sgd", **kept)
    one = perceptron(inputs=4, outputs=1)
    train(config(data="abalone", dtype="float64"), regression(), one, group=group)
    found["regression"] = {"bits": hashlib.sha256(b"".join(bits(one).values())).hexdigest()}
    with pytest.raises(RanksError, match="ranks begin a run from different weights"):
        train(config(), classification(), perceptron(seed=rank), group=group)
    return found


@pytest.mark.parametrize("world", [2])
def test_ranks_train_what_one_process_trains(world: int, tmp_path: Path) -> None:
    first, *others = run(world, on_a_rank, tmp_path, str(tmp_path / "work"))
    for name in RUNS:
        alone = outcome_of(name)
        assert first[name]["losses"] == pytest.approx(alone["losses"], rel=1e-9)
        assert first[name]["weights"] == pytest.approx(alone["weights"], rel=1e-7, abs=1e-10)
    assert first["interrupted"]["status"] == "interrupted"
    assert first["resumed"]["bits"] == first["sgd"]["bits"], "stopped in the middle of an epoch and gone on"
    for other in others:
        assert {k: v["bits"] for k, v in other.items()} == {k: v["bits"] for k, v in first.items()}


def test_what_ranks_would_train_otherwise_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch normalisation \('1'\) would not be the whole batch's"):
        refuse_unlike_alone(noisy_network())
    with pytest.raises(InputError, match="dropout"):
        refuse_unlike_alone(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))
    refuse_unlike_alone(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0), nn.LayerNorm(2), nn.GroupNorm(1, 2)))
