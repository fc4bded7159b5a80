"""A whole study, small: what lands in the store, the tables and the report."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from in_process import InThisProcess
from sharpscope.studies import collect, load_study, make_plan, run_plan, validate_plan, write_report
from sharpscope.studies.tasks.runs import take_measure
from sharpscope.sweep import Interrupted, Store, TaskContext

STUDY = """
name = "small"
title = "A <b>small</b> study"
[run]
data = { name = "digits", train_samples = 300, validation_samples = 100 }
model = { name = "mlp", options = { hidden = [12], batch_norm = "hidden", dropout = 0.1 } }
optimizer = { name = "sgd", lr = 0.1, options = { momentum = 0.9 } }
batch_size = 64
stop = { epochs = 3 }
[grid]
optimizer.lr = [0.05, 0.2, 1e6]
seed = [0, 1]
[objective]
samples = 120
[[measures]]
measure = "lambda_max"
[[measures]]
measure = "average_direction"
samples = 8
[[measures]]
measure = "worst_case"
name = "worst"
restarts = 3
step_size = "learning_rate"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.toml").write_text(STUDY)
    plan = make_plan(load_study(folder / "small.toml"))
    validate_plan(plan)
    store = Store(folder / "store")
    summary = run_plan(plan, store, executor=InThisProcess(store.root))
    return plan, store, summary


def test_everything_is_done_once(finished) -> None:
    plan, store, summary = finished
    assert (summary.done, summary.failed) == (6 + 18, 0)
    again = run_plan(plan, store, workers=1)
    assert (again.done, again.skipped) == (0, 24)


def test_a_measure_that_is_asked_to_stop_may_end_soon_and_is_stopped_otherwise(
    finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store, _ = finished
    run = plan.runs[0]
    specs = [
        {"measure": name} for name in ("lambda_max", "lambda_max_between_iterates", "trace", "worst_case")
    ]
    specs += [{"measure": "sharpness_radius"}, {"measure": "gradient_norm"}, {"measure": "average_direction"}]
    payload = {
        "run": run.config.model_dump(mode="json"),
        "objective": plan.study.config.objective.model_dump(mode="json"),
        "execution": {"device": "cpu", "data_dir": None},
    }
    context = TaskContext(tmp_path, tmp_path, {run.id: store.intact(run.id)}, should_stop=lambda: True)
    for spec in specs:
        with monkeypatch.context() as patch:
            patch.setattr("sharpscope.studies.tasks.runs.GRACE", 0.0)
            with pytest.raises(Interrupted):
                take_measure({**payload, "spec": spec}, context)
    take_measure({**payload, "spec": specs[0]}, context)
    assert json.loads((tmp_path / "measure.json").read_text())["value"] > 0


def test_tables_hold_every_run_and_measure_and_a_divergence_is_a_result(finished) -> None:
    _, store, _ = finished
    tables = collect(store)
    runs, measures = tables.runs, tables.measures
    assert runs["status"].tolist() == ["finished"] * 4 + ["diverged"] * 2
    assert runs["lr"].tolist() == [0.05, 0.05, 0.2, 0.2, 1e6, 1e6]
    assert runs["configuration"].nunique() == 3
    fine = runs["status"] == "finished"
    for metric in ("train_loss", "validation_loss", "test_loss", "test_accuracy", "gap"):
        assert runs.loc[fine, metric].notna().all(), metric
        assert runs.loc[~fine, metric].isna().all(), metric
    assert runs.loc[fine, "gap"].tolist() == (runs["test_loss"] - runs["train_loss"])[fine].tolist()
    assert runs["constant_loss"].between(2.25, np.log(10)).all()  # ten digits, nearly equally common
    taken = measures["run_id"].isin(runs.loc[fine, "run_id"])
    assert measures.loc[taken, "value"].notna().all()
    assert measures.loc[~taken, "value"].isna().all()
    assert measures.loc[~taken, "note"].str.contains("diverged").all()
    assert measures["measure"].unique().tolist() == ["lambda_max", "average_direction", "worst"]
    assert json.loads(measures.loc[measures["measure"] == "worst", "protocol"].iloc[0])["step_size"] == 0.05
    wide = tables.results()
    assert len(wide) == 6
    assert {"lambda_max", "average_direction", "average_direction_stderr", "worst_stderr"} <= set(
        wide.columns
    )
    assert "lambda_max_stderr" not in wide.columns
    assert tables.history.groupby("run_id")["epoch"].max().loc[runs.loc[fine, "run_id"]].tolist() == [3] * 4


def test_a_published_checkpoint_is_the_measured_model(finished) -> None:
    from sharpscope.studies.tasks.runs import objective_of

    plan, store, _ = finished
    run, m = plan.runs[0], plan.measures[0]
    obj = objective_of(
        run.config,
        store.path(run.id) / "checkpoint.safetensors",
        plan.study.config.objective.model_dump(mode="json"),
        {"data_dir": None, "device": "cpu"},
    )
    stored = json.loads((store.path(m.id) / "measure.json").read_text())
    assert stored["fingerprint"] == obj.fingerprint
    torch.set_num_threads(1)
    from sharpscope.measures import take

    assert take(obj, m.spec).value == stored["value"]


def test_the_report_is_rebuilt_from_the_store_alone_byte_for_byte(finished, tmp_path: Path) -> None:
    _, store, _ = finished
    first = write_report(collect(store), tmp_path / "a", figures=True)
    second = write_report(collect(Store(store.root, create=False)), tmp_path / "b", figures=True)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert first.read_bytes() == second.read_bytes()
    assert {"results.csv", "results.parquet", "measures.csv", "history.csv"} <= {f.name for f in files}
    assert any(f.suffix == ".svg" for f in files)
    assert any(f.suffix == ".png" for f in files)
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert "A <b>small</b> study" not in first.read_text()


CHAOS = """
name = "chaos"
[run]
data = { name = "digits", train_samples = 400 }
model = { name = "mlp", options = { hidden = [24] } }
optimizer = { name = "adagrad", lr = 0.01 }
batch_size = 8
stop = { epochs = 12 }
[grid]
optimizer.lr = [0.005, 0.02]
seed = [0, 1]
[[measures]]
measure = "lambda_max"
[[measures]]
measure = "worst_case"
restarts = 20
[[measures]]
measure = "trace"
samples = 30
[[measures]]
measure = "average_direction"
samples = 60
[[measures]]
measure = "frobenius_norm"
samples = 31
[[measures]]
measure = "gradient_norm"
"""


def _arguments(study: Path, store: Path, workers: int) -> list[str]:
    return ["run", str(study), "--store", str(store), "--workers", str(workers)]


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    import psutil

    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _published(store: Path) -> int:
    return len([*store.glob("runs/*"), *store.glob("measures/*")])


@pytest.mark.slow
def test_kill_9_three_times_then_a_last_call_gives_the_same_table_as_one_worker_undisturbed(
    cli, tmp_path: Path
) -> None:
    study = tmp_path / "chaos.toml"
    study.write_text(CHAOS)
    assert cli(*_arguments(study, tmp_path / "calm", 1))[0] == 0
    moments = random.Random(7)
    for i in range(3):
        before = _published(tmp_path / "hit")
        command = [sys.executable, "-m", "sharpscope", *_arguments(study, tmp_path / "hit", 1 + i % 2)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while (
            _published(tmp_path / "hit") <= before and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.3))
        assert process.poll() is None  # it was killed at work, not after it
        _kill_all(process)
        process.wait()
    assert _published(tmp_path / "hit") < 28
    assert cli(*_arguments(study, tmp_path / "hit", 2))[0] == 0
    for name in ("results.csv", "results.parquet", "measures.csv"):
        calm, hit = ((tmp_path / s / "report" / "tables" / name).read_bytes() for s in ("calm", "hit"))
        assert calm == hit, name
    assert not list((tmp_path / "hit" / "tmp").iterdir())


def test_runs_that_a_rule_gives_up_are_recorded_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "slow.toml").write_text(
        STUDY.replace("epochs = 3", "epochs = 3, hopeless = [{ epoch = 1, train_loss = 2.2 }]")
        .replace("[0.05, 0.2, 1e6]", "[1e-6, 0.1, 0.2]")
        .partition('[[measures]]\nmeasure = "average')[0]
        + '[[claims]]\nid = "C"\nstatement = "s"\nkind = "trend"\nx = "lr"\ny = "gap"\ndirection = "rising"\n'
    )
    store = Store(tmp_path / "store")
    run_plan(make_plan(load_study(tmp_path / "slow.toml")), store, workers=2)
    tables = collect(store)
    runs = tables.runs.sort_values("lr")
    assert runs["status"].tolist() == ["stopped"] * 2 + ["finished"] * 4
    assert runs["stop_reason"].tolist() == ["hopeless"] * 2 + ["epochs"] * 4
    assert runs["epochs"].tolist() == [1, 1, 3, 3, 3, 3]
    assert runs["train_loss"].isna().tolist() == [True] * 2 + [False] * 4
    measured = tables.measures.set_index("run_id").loc[runs["run_id"]]
    assert measured["value"].isna().tolist() == [True] * 2 + [False] * 4
    assert measured["note"].iloc[0] == "not taken: the run was stopped early by rule"
    page = write_report(tables, tmp_path / "report").read_text()
    assert "2 stopped early by rule" in page
    assert "2 of 6 runs were stopped early by rule" in tables.verdicts[0].caveat
