"""Whatever fails in a monitor, training goes on to the same bits, and the rows say what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from integrations import ddp_monitor_worker
from integrations.test_monitor import cross_entropy, everything, network, probe, train
from sharpscope import Objective, SharpnessMonitor
from sharpscope.errors import InputError
from sharpscope.integrations import measurements


class Raises:
    """A tracker whose server is away."""

    def log(self, numbers: Any, step: int) -> None:
        raise ConnectionError("no route to host")


class Folder:
    """A file whose place has become a folder, which no file can replace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, numbers: Any, step: int) -> None:
        if self.path.is_file():
            self.path.unlink()
        (self.path / "something").mkdir(parents=True, exist_ok=True)


def out_of_memory(*_: Any, **__: Any) -> Any:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")


FAILURES = ("tracker", "file", "average_direction", "lambda_max", "edge", "everything")


def sabotage(failure: str, patch: pytest.MonkeyPatch) -> None:
    if failure == "average_direction":
        patch.setattr(measurements, "average_direction_sharpness", out_of_memory)
    if failure == "lambda_max":
        patch.setattr(measurements, "top_eigenvalues", out_of_memory)
    if failure == "edge":
        patch.setattr(measurements, "edge_of_stability", out_of_memory)
    if failure == "everything":
        patch.setattr(Objective, "loss_and_gradient", out_of_memory)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_costs_a_warning_and_a_note(
    failure: str, norm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, watched = network(norm), network(norm)
    ours, theirs = (torch.optim.Adam(m.parameters(), lr=0.1) for m in (watched, plain))
    path = tmp_path / "s.parquet"
    trackers: list[Any] = {"tracker": [Raises()], "file": [Folder(path)]}.get(failure, [])
    obj = Objective(watched, cross_entropy, probe())
    choices: dict[str, Any] = {"every": 2, "samples": 4, "between": 2}
    monitor = SharpnessMonitor(obj, **choices, optimizer=ours, path=path, trackers=trackers)
    sabotage(failure, monkeypatch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert train(watched, ours, 6, monitor) == train(plain, theirs, 6)
    monitor.close()
    assert everything(watched, ours) == everything(plain, theirs)
    told = [str(w.message) for w in caught if w.category is RuntimeWarning]
    assert told
    assert len(set(told)) == len(told) <= 3  # each kind once
    assert all("goes on without" in message for message in told)
    assert [row["step"] for row in monitor.rows] == [2, 4, 6]
    words = {"tracker": "no route to host", "file": "s.parquet"}.get(failure, "not enough memory")
    assert all(words in row["note"] for row in monitor.rows)
    filled = {key for key, value in monitor.rows[0].items() if value is not None}
    missing = {
        "average_direction": {"average_direction"},
        "lambda_max": {"lambda_max", "between_iterates"},
        "edge": {"edge", "lambda_max_preconditioned"},
        "everything": {"loss", "lambda_max", "average_direction", "edge"},
    }.get(failure, set())
    assert not missing & filled
    if failure != "everything":
        assert {"loss", "gradient_norm", "lambda_max", "average_direction", "edge"} - missing <= filled
    if failure not in ("file", "everything"):
        table = pd.read_parquet(path)
        assert table["step"].tolist() == [2, 4, 6]
        assert all(words in note for note in table["note"])


@pytest.mark.parametrize("where", ["lambda_max", "average_direction", "between"])
def test_ctrl_c_keeps_the_rows_and_the_weights(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = network(norm=True), tmp_path / "s.parquet"
    obj = Objective(model, cross_entropy, probe())
    monitor = SharpnessMonitor(obj, every=1, samples=4, between=3, path=path)
    monitor.measure()
    monitor.after_step()

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    name = {"lambda_max": "top_eigenvalues", "between": "top_eigenvalues"}.get(
        where, "average_direction_sharpness"
    )
    with torch.no_grad():
        model[0].weight.add_(0.1)  # a step, so that the way back from between the iterates is one
    before = [t.clone() for t in model.state_dict().values()]
    monkeypatch.setattr(measurements, name, interrupted)
    if where != "between":
        monitor.close()  # nothing waits for the next iterate
    with pytest.raises(KeyboardInterrupt), monitor:
        monitor.after_step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
    table = pd.read_parquet(path)
    assert table["step"].tolist() == ([0, 1] if where == "between" else [0, 1, 2])
    assert where == "between" or table["note"].iloc[-1] == "interrupted"
    monkeypatch.undo()
    assert monitor.after_step() is not None  # goes on if the caller does


def test_resuming_doubles_no_row(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "s.parquet"
    obj = Objective(model, cross_entropy, probe())
    monitor = SharpnessMonitor(obj, every=2, path=path)
    monitor.measure()
    for _ in range(6):
        monitor.after_step()
    for begin in (4, 5):
        again = SharpnessMonitor(obj, every=2, path=path)
        again.resume(begin)
        again.measure()  # where training goes on
        while again.step < 8:
            again.after_step()
        expected = [0, 2, 4, 5, 6, 8] if begin == 5 else [0, 2, 4, 6, 8]
        assert [row["step"] for row in again.rows] == expected
        assert pd.read_parquet(path)["step"].tolist() == expected


def test_an_older_file_and_an_unreadable_one(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    pd.DataFrame({"step": [1, 2], "lambda_max": [3.0, 4.0], "note": ["", ""]}).to_parquet(path)
    obj = Objective(network(), cross_entropy, probe())
    monitor = SharpnessMonitor(obj, every=1, path=path)
    monitor.resume(1)
    monitor.after_step()
    assert pd.read_parquet(path)["step"].tolist() == [1, 2]
    path.write_bytes(b"not a table")
    monitor = SharpnessMonitor(obj, every=1, path=path)
    with pytest.warns(RuntimeWarning, match=r"s\.parquet\.unreadable"):
        monitor.resume(5)
    assert (tmp_path / "s.parquet.unreadable").read_bytes() == b"not a table"
    monitor.after_step()
    assert pd.read_parquet(path)["step"].tolist() == [6]


def test_parameters_that_are_frozen_or_unfrozen_later() -> None:
    model = network().double()
    model[0].requires_grad_(False)
    x, y = probe()
    whole, last = (Objective(model, cross_entropy, (x.double(), y), params=p) for p in (None, ["3.weight"]))
    monitor, chosen = (SharpnessMonitor(obj, every=1, tol=1e-4) for obj in (whole, last))
    first = monitor.measure()
    assert first["note"] == ""
    model[0].requires_grad_(True)
    second = monitor.after_step()
    assert second is not None
    assert second["note"] == "2 parameters joined what is measured: 4 from here on"
    assert (
        second["gradient_norm"] == Objective(model, cross_entropy, (x.double(), y)).gradient().norm().item()
    )
    assert second["lambda_max"] > first["lambda_max"]
    assert chosen.measure()["note"] == ""  # params= was the user's choice
    assert chosen.objective.size == last.size
    model[3].bias.requires_grad_(False)
    third = monitor.after_step()
    assert third is not None
    assert third["note"] == "1 left what is measured: 3 from here on"
    model.requires_grad_(False)
    fourth = monitor.after_step()
    assert fourth is not None
    assert fourth["gradient_norm"] == third["gradient_norm"]


WRONG: dict[str, dict[str, Any]] = {
    "every or share": {},
    "every and share": {"every": 1, "share": 0.1},
    "every": {"every": 0},
    "every, broken": {"every": 2.5},
    "every, a truth": {"every": True},
    "share": {"share": 1.0},
    "share, negative": {"share": -0.1},
    "share, no number": {"share": float("nan")},
    "between": {"every": 1, "between": 1},
    "between, negative": {"every": 1, "between": -2},
    "radius": {"every": 1, "radius": 0.0},
    "radius, infinite": {"every": 1, "radius": float("inf")},
    "samples": {"every": 1, "samples": 0},
    "samples, odd": {"every": 1, "samples": 5},
    "tol": {"every": 1, "tol": 0.0},
    "tol, no number": {"every": 1, "tol": float("nan")},
    "max_products": {"every": 1, "max_products": 0},
    "trackers": {"every": 1, "trackers": [print]},
    "path": {"every": 1, "path": os.sep},
    "path, under a file": {"every": 1, "path": Path(__file__) / "s.parquet"},
    "optimizer": {"every": 1, "optimizer": "adam"},
}


@pytest.mark.parametrize("case", WRONG)
def test_arguments_are_checked_when_it_is_made(case: str) -> None:
    with pytest.raises(InputError, match="received"):
        SharpnessMonitor(Objective(network(), cross_entropy, probe()), **WRONG[case])


def test_a_model_is_no_objective() -> None:
    with pytest.raises(InputError, match="make one of the model"):
        SharpnessMonitor(nn.Linear(1, 1), every=1)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp-monitor")
    command = [sys.executable, ddp_monitor_worker.__file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in (0, 1)]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return folder


@pytest.mark.parametrize("kind", ddp_monitor_worker.KINDS)
def test_under_ddp_the_first_rank_measures_and_no_one_waits(kind: str, ranks: Path) -> None:
    """With batch normalisation, whose buffers DistributedDataParallel sends round in every forward pass."""
    for rank in (0, 1):
        plain, watched = (torch.load(ranks / f"{kind}.{watch}.{rank}.pt") for watch in (False, True))
        assert plain.keys() == watched.keys()
        assert all(torch.equal(plain[key], watched[key]) for key in plain)
    table = pd.read_parquet(ranks / f"{kind}.parquet")
    assert table["step"].tolist() == [1, 2, 3]
    assert table["lambda_max"].notna().all()
    assert (table["note"] == "").all()


def test_shards_are_refused(ranks: Path) -> None:
    for rank in (0, 1):
        assert "full state dict" in (ranks / f"sharded.{rank}.txt").read_text(encoding="utf-8")
