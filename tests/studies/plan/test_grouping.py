"""Runs put together into one task: the same results, whoever trained with whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file

from sharpscope.studies import JointPlan, Plan, load_study, make_plan, run_plan
from sharpscope.studies.plan.grouping import grouped, measured_size, train_runs
from sharpscope.sweep import Interrupted, Store, Task, TaskContext
from sharpscope.training import RunConfig

STUDY = """
name = "groups"
[run]
data = { name = "digits", train_samples = 150, validation_samples = 50 }
model = { name = "mlp", options = { hidden = [10], batch_norm = "hidden", dropout = 0.1 } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = 32
stop = { epochs = 2 }
[[grid]]
optimizer.lr = [0.05, 0.2, 1e8]
seed = [0, 1]
[[grid]]
cases = [{ batch_size = 50 }]
[[grid]]
cases = [{ batch_size = 40, compile = true }, { batch_size = 40, compile = true, seed = 1 }]
[objective]
samples = 60
[[measures]]
measure = "average_direction"
samples = 4
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "groups.toml").write_text(STUDY)
    return make_plan(load_study(tmp_path / "groups.toml"))


def test_families_are_cut_so_that_everyone_has_something_to_do(plan: Plan) -> None:
    tasks = JointPlan((plan,)).tasks()
    family = [run.id for run in plan.runs[:6]]

    def sizes(size: int, workers: int) -> list[int]:
        made = grouped(tasks, lambda run: size, workers)
        assert sorted(p for t in made for p in t.products) == sorted(p for t in tasks for p in t.products)
        assert [t for t in made if t.kind == "measures"] == [t for t in tasks if t.kind == "measures"]
        assert [p for t in made for p in t.products if p in family] == family
        return [len(t.produces) for t in made if t.produces]

    assert sizes(10, 1) == [6]
    assert sizes(4, 1) == [4, 2]
    assert sizes(5, 1) == [5]  # the sixth trains alone
    assert sizes(10, 2) == [3, 3]
    assert sizes(10, 6) == sizes(1, 1) == []


def test_runs_of_another_kind_and_compiled_runs_train_alone(plan: Plan) -> None:
    made = grouped(JointPlan((plan,)).tasks(), lambda run: 100, 1)
    assert [len(t.products) for t in made if t.kind == "runs"] == [6, 1, 1, 1]


def test_nothing_is_measured_for_runs_that_are_there(plan: Plan) -> None:
    def unwanted(run: RunConfig) -> int:
        raise AssertionError("nothing is to be trained")

    tasks = JointPlan((plan,)).tasks()
    assert grouped(tasks, unwanted, 1, lambda result: True) == tasks


def results(store: Store) -> dict[str, Any]:
    """Everything published but times."""
    found: dict[str, Any] = {}
    for kind in ("runs", "measures"):
        for result in store.ids(kind):
            for path in sorted(store.path(result).iterdir()):
                if path.suffix == ".parquet":
                    found[f"{result}/{path.name}"] = pd.read_parquet(path).drop(columns="seconds").to_json()
                elif path.suffix == ".safetensors":
                    found[f"{result}/{path.name}"] = weights(path)
                elif path.name in ("config.json", "outcome.json", "measure.json"):
                    found[f"{result}/{path.name}"] = path.read_bytes()
    return found


def weights(path: Path) -> dict[str, bytes]:
    """A checkpoint's tensors, to the bit; the order of a file's metadata is anybody's."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


@pytest.mark.slow
def test_a_study_has_the_same_results_in_groups_and_without(tmp_path: Path) -> None:
    few = STUDY[: STUDY.index("[[grid]]\ncases")].replace("0.05, ", "")
    (tmp_path / "groups.toml").write_text(few)
    plan = make_plan(load_study(tmp_path / "groups.toml"))
    one, many = Store(tmp_path / "one"), Store(tmp_path / "many")
    summary = run_plan(plan, many, workers=1, together=3)
    assert (summary.done, summary.failed) == (4, 0)
    run_plan(plan, one, workers=1, together=1)
    assert results(one) == results(many)
    assert run_plan(plan, many, workers=1).skipped == 4


def context(folder: Path, task: Task, missing: tuple[str, ...], **others: Any) -> TaskContext:
    output, workspace = folder / "output", folder / "work"
    workspace.mkdir(exist_ok=True)
    for result in missing:
        (output / result).mkdir(parents=True)
    return TaskContext(output, workspace, missing=missing, **others)


def test_what_is_there_is_not_trained_again_and_an_interrupted_group_goes_on(
    plan: Plan, tmp_path: Path
) -> None:
    task = next(t for t in grouped(JointPlan((plan,)).tasks(), lambda run: 6, 1) if t.produces)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    for folder in (whole, pieces):
        folder.mkdir()
    train_runs(task.payload, context(whole, task, task.produces))
    missing = task.produces[1:5]
    asked = iter([False] * 7 + [True] * 9)
    with pytest.raises(Interrupted):
        train_runs(task.payload, context(pieces, task, missing, should_stop=lambda: next(asked)))
    assert sorted(path.name for path in (pieces / "work").iterdir()) == sorted(missing)
    (pieces / "output").rename(tmp_path / "thrown away")
    told: list[Any] = []
    train_runs(task.payload, context(pieces, task, missing, report=told.append))
    assert told[-1] == {
        "fraction": 0.875,
        "epoch": 2,
        "loss": told[-1]["loss"],
    }  # one diverges in its first epoch
    for result in missing:
        ours, theirs = pieces / "output" / result, whole / "output" / result
        assert weights(ours / "checkpoint.safetensors") == weights(theirs / "checkpoint.safetensors")
        assert (ours / "outcome.json").read_bytes() == (theirs / "outcome.json").read_bytes()
    assert {p.name for p in (pieces / "output").iterdir()} == set(missing)


def test_the_size_is_measured_and_remembered(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharpscope.training import calibration

    monkeypatch.setenv("SHARPSCOPE_CACHE", str(tmp_path))
    times = {1: 1.0, 2: 0.7, 4: 0.5, 8: 0.49, 16: 0.1}
    monkeypatch.setattr(calibration, "_time_per_model", lambda config, data, model, size: times[size])
    size_of = measured_size({"data_dir": None, "device": "cpu"}, 1)
    assert size_of(plan.runs[0].config) == 4
    times.clear()  # whatever is measured from here on fails
    assert size_of(plan.runs[5].config) == 4
    assert measured_size({"data_dir": None, "device": "cuda"}, 1)(plan.runs[0].config) == 1
