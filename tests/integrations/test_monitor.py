"""The monitor's numbers are the measures', and training does not notice it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from oracles.dense import dense
from sharpscope import Objective, SharpnessMonitor, average_direction_sharpness
from sharpscope.integrations import MLflow, TensorBoard, WandB
from sharpscope.integrations.pace import Pace

cross_entropy = nn.functional.cross_entropy


def network(norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(5)] if norm else []
    return nn.Sequential(nn.Linear(4, 5), *middle, nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, 3))


def probe() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(30, 4, generator=draws), torch.randint(0, 3, (30,), generator=draws)


def train(
    model: nn.Module, optimizer: Any, steps: int, monitor: SharpnessMonitor | None = None
) -> list[float]:
    """Dropout, Python's and NumPy's generators: everything that measuring could disturb."""
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    draws = []
    for _ in range(steps):
        x = torch.randn(8, 4) + random.random() + np.random.rand()
        y = (x[:, 0] > 0.5).long() + (x[:, 1] > 1).long()
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.after_step()
            assert all(p.grad is not None for p in model.parameters())
        draws.append(loss.item())
    return draws


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[bytes]:
    tensors = list(model.state_dict().values()) + [p.grad for p in model.parameters()]
    state = optimizer.state_dict()["state"]
    tensors += [v for entry in state.values() for v in entry.values() if isinstance(v, torch.Tensor)]
    return [tensor.numpy().tobytes() for tensor in tensors] + [torch.get_rng_state().numpy().tobytes()]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("pace", [{"every": 1}, {"every": 3}, {"share": 0.3}])
def test_training_is_the_same_to_the_bit(norm: bool, pace: dict[str, Any], tmp_path: Path) -> None:
    plain, watched = network(norm), network(norm)
    ours, theirs = (torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (watched, plain))
    path = tmp_path / "s.parquet"
    obj = Objective(watched, cross_entropy, probe())
    monitor = SharpnessMonitor(obj, **pace, optimizer=ours, path=path, samples=4, between=3)
    monitor.measure()
    assert train(watched, ours, 7, monitor) == train(plain, theirs, 7)
    assert everything(watched, ours) == everything(plain, theirs)
    assert len(monitor.rows) > 1 or "share" in pace


def test_rows_hold_the_measures_own_numbers(tmp_path: Path) -> None:
    """Against the dense Hessian at every fourth step, found from the eigenvector of the step before."""
    model = network().double()
    model[2].p = 0.0
    x, y = probe()
    x = x.double()
    obj = Objective(model, cross_entropy, (x, y))
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.2}, {"params": model[3].parameters(), "lr": 0.5}]
    )
    path = tmp_path / "folder" / "sharpness.parquet"
    monitor = SharpnessMonitor(obj, every=4, optimizer=optimizer, tol=1e-4, radius=0.5, path=path)
    for step in range(12):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        row = monitor.after_step()
        assert (row is not None) == (step % 4 == 3)
        if row is None:
            continue
        assert row["lambda_max"] == pytest.approx(highest_eigenvalue(obj), rel=1e-4)
        assert row["lambda_max_converged"]
        assert row["gradient_norm"] == pytest.approx(obj.gradient().norm().item())
        assert row["loss"] == pytest.approx(obj.loss())
        average = average_direction_sharpness(obj, radius=0.5, samples=20)
        assert row["average_direction"] == average.value
        assert row["average_direction_stderr"] == average.stderr
        assert (row["two_over_lr"], row["between_iterates"]) == (4.0, None)
    table = pd.read_parquet(path)
    assert table["step"].tolist() == [4, 8, 12]
    assert table["lambda_max"].tolist() == [row["lambda_max"] for row in monitor.rows]
    assert table["between_iterates"].isna().all()
    assert table["note"].tolist() == ["", "", ""]
    assert [file.name for file in path.parent.iterdir()] == ["sharpness.parquet"]


def test_the_search_from_the_last_eigenvector_finds_the_same_value() -> None:
    model = network().double()
    monitor = SharpnessMonitor(Objective(model, cross_entropy, probe()), every=1, tol=1e-3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    train(model.float(), optimizer, 0)
    cold, warm = monitor.measure(), monitor.measure()
    assert warm["products"] <= cold["products"] + 3
    assert warm["lambda_max"] == pytest.approx(cold["lambda_max"], rel=1e-3)


def test_between_iterates_where_there_is_batch_normalisation(tmp_path: Path) -> None:
    model = network(norm=True).double()
    x, y = probe()
    x = x.double()
    obj = Objective(model, cross_entropy, (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    path = tmp_path / "s.parquet"
    monitor = SharpnessMonitor(obj, every=2, optimizer=optimizer, between=4, tol=1e-4, path=path)
    iterates = []
    for _ in range(4):
        torch.manual_seed(0)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        iterates.append(obj.flat())
        statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
        monitor.after_step()
        assert torch.equal(obj.flat(), iterates[-1])
        if len(iterates) == 3:
            expected = []
            for alpha in (0, 1 / 3, 2 / 3, 1):
                at = network(norm=True).double()
                at.load_state_dict(model.state_dict() | statistics)
                point = obj.layout.split(torch.lerp(iterates[1], iterates[2], alpha))
                with torch.no_grad():
                    for name, parameter in at.named_parameters():
                        parameter.copy_(point[name])
                expected.append(highest_eigenvalue(Objective(at, cross_entropy, (x, y))))
    first, second = monitor.rows
    assert first["between_iterates"] == pytest.approx(max(expected), rel=1e-3)
    assert first["lambda_max"] != pytest.approx(
        max(expected), rel=1e-2
    )  # the step went through something sharper
    assert second["between_iterates"] is None
    assert len(pd.read_parquet(path)) == 1
    monitor.close()
    assert len(pd.read_parquet(path)) == 2


@pytest.mark.parametrize("backwards", [False, True])
def test_the_highest_value_of_a_step_is_kept_wherever_it_lies(backwards: bool) -> None:
    """One way along the segment λ_max rises, the other way it falls: the row holds the maximum both times."""
    model = network(norm=True).double().eval()
    x, y = probe()
    obj = Objective(model, cross_entropy, (x.double(), y))
    here, values = obj.flat(), []
    there = here + 0.5 * torch.randn(obj.size, generator=torch.Generator().manual_seed(2), dtype=here.dtype)
    ends = (there, here) if backwards else (here, there)
    for alpha in (0, 1 / 3, 2 / 3, 1):
        set_parameters(model, obj, torch.lerp(*ends, alpha))
        values.append(highest_eigenvalue(obj))
    monitor = SharpnessMonitor(obj, every=2, between=4, tol=1e-4)
    set_parameters(model, obj, ends[0])
    monitor.measure()
    set_parameters(model, obj, ends[1])
    monitor.after_step()
    assert monitor.rows[0]["between_iterates"] == pytest.approx(max(values), rel=1e-3)
    assert max(values) > 1.01 * values[-1] or not backwards


def set_parameters(model: nn.Module, obj: Objective, point: torch.Tensor) -> None:
    parts = obj.layout.split(point)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(parts[name])


def test_the_share_of_time_is_kept_to() -> None:
    """By a clock of our own: steps of one second, measurements of five; a tenth of the time is asked for."""
    now = [0.0]
    pace = Pace(None, 0.1, clock=lambda: now[0])
    pace.expect(5.0)
    pace.begin()
    measured = []
    for step in range(1, 401):
        now[0] += 1.0
        if pace.due(step):
            measured.append(step)
            now[0] += 5.0
            pace.paid(5.0)
        assert pace.share <= 0.1
    assert 0.08 < pace.share <= 0.1
    assert len(measured) == 8


def test_the_share_is_kept_to_by_the_monitor_s_own_accounts() -> None:
    """By a clock that goes on by a second with every forward pass, in training and in measuring."""
    model = network()
    passes = [0]
    model[0].register_forward_pre_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    objective = Objective(model, cross_entropy, probe())
    passes[0] = 0
    monitor = SharpnessMonitor(objective, share=0.3, clock=lambda: float(passes[0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    own, steps = passes[0], 0
    while len(monitor.rows) < 20:
        before = passes[0]
        train(model, optimizer, 1)
        monitor.after_step(steps := steps + 1)
        own += passes[0] - before - 1
        assert monitor.share <= 0.3 or not monitor.rows
    assert monitor.seconds == own  # all that it took, and nothing else
    assert monitor.share == own / passes[0]
    assert 0.2 < monitor.share <= 0.3
    assert sum(row["cost"] for row in monitor.rows) <= own


def test_a_diverged_model_gets_a_row_that_says_so(tmp_path: Path) -> None:
    model = network(norm=True)
    monitor = SharpnessMonitor(
        Objective(model, cross_entropy, probe()), every=1, path=tmp_path / "s.parquet", optimizer=None
    )
    monitor.measure()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    row = monitor.after_step()
    assert row is not None
    assert row["lambda_max"] is None
    assert "finite" in row["note"]
    assert row["two_over_lr"] is None
    assert pd.read_parquet(tmp_path / "s.parquet")["lambda_max"].isna().tolist() == [False, True]


def test_resuming_keeps_the_rows_up_to_the_step(tmp_path: Path) -> None:
    model = network()
    obj = Objective(model, cross_entropy, probe())
    path = tmp_path / "s.parquet"
    monitor = SharpnessMonitor(obj, every=2, path=path)
    for _ in range(6):
        monitor.after_step()
    again = SharpnessMonitor(obj, every=2, path=path)
    again.resume(5)
    assert [row["step"] for row in again.rows] == [2, 4]
    assert again.rows == monitor.rows[:2]
    assert again.after_step(5) is None
    again.after_step()
    assert pd.read_parquet(path)["step"].tolist() == [2, 4, 6]


def highest_eigenvalue(obj: Objective) -> float:
    return float(np.linalg.eigvalsh(dense(obj)[2])[-1])


class Recorder:
    """Stands in for a W&B run and for a TensorBoard writer."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def log(self, numbers: dict[str, float]) -> None:
        self.calls.append(numbers)

    def define_metric(self, *names: str, **options: str) -> None:
        self.calls.append((names, options))


def test_trackers_receive_the_numbers(tmp_path: Path) -> None:
    model, run = network(), Recorder()
    monitor = SharpnessMonitor(Objective(model, cross_entropy, probe()), every=2, trackers=[WandB(run)])
    monitor.after_step(2)
    assert run.calls[0] == (("sharpness/*",), {"step_metric": "sharpness/step"})
    logged = run.calls[1]
    assert logged["sharpness/step"] == 2
    assert logged["sharpness/lambda_max"] == monitor.rows[0]["lambda_max"]
    assert "sharpness/two_over_lr" not in logged


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = network()
    monitor = SharpnessMonitor(
        Objective(model, cross_entropy, probe()), every=1, trackers=[TensorBoard(tmp_path)]
    )
    monitor.after_step()
    monitor.after_step()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = events.Scalars("sharpness/lambda_max")
    assert [(s.step, s.value) for s in scalars] == [
        (row["step"], pytest.approx(row["lambda_max"])) for row in monitor.rows
    ]


def test_mlflow(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    with mlflow.start_run() as run:
        monitor = SharpnessMonitor(Objective(network(), cross_entropy, probe()), every=1, trackers=[MLflow()])
        monitor.after_step()
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    assert metrics["sharpness.lambda_max"] == pytest.approx(monitor.rows[0]["lambda_max"])


def test_wandb_offline(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    with wandb.init(mode="offline", dir=tmp_path, project="sharpscope") as run:
        monitor = SharpnessMonitor(
            Objective(network(), cross_entropy, probe()), every=1, trackers=[WandB(run)]
        )
        monitor.after_step()
        assert run.summary["sharpness/lambda_max"] == pytest.approx(monitor.rows[0]["lambda_max"])
