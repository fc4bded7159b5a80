"""Tracks, landscapes, surfaces, audits, histograms and verdicts of a small paper, run once."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from in_process import InThisProcess
from sharpscope.studies import (
    collect_all,
    load_studies,
    make_joint_plan,
    run_plan,
    validate_plan,
    write_reports,
)
from sharpscope.studies.tasks.tracking import train_and_track
from sharpscope.sweep import Interrupted, Store, TaskContext
from studies.mini_paper import MINI


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("mini")
    (folder / "mini.toml").write_text(MINI)
    joint = make_joint_plan(load_studies(folder / "mini.toml", "smoke"))
    validate_plan(joint)
    store = Store(folder / "store")
    summary = run_plan(joint, store, executor=InThisProcess(store.root))
    assert (summary.failed, summary.blocked) == (0, 0)
    return joint, store, collect_all(store)


def test_a_track_has_the_first_every_second_and_the_last_epoch(finished) -> None:
    joint, _, tables = finished
    tracks = tables["mini-fig1-smoke"].tracks
    chosen = [run.id for run in joint.plans[0].runs if run.config.optimizer.lr == 0.2]
    assert tracks.groupby("run_id")["epoch"].apply(list).to_dict() == {run: [1, 2, 4] for run in chosen}
    assert tracks["measure"].unique().tolist() == ["lambda_max"]
    assert (tracks["value"] > 0).all()
    last = tracks[tracks["epoch"] == 4].set_index("run_id")["value"]
    final = tables["mini-fig1-smoke"].results().set_index("run_id")["lambda_max"]
    assert not torch.allclose(*(torch.tensor(v.loc[chosen].to_numpy()) for v in (last, final)))  # 100 samples


def test_a_line_joins_runs_of_one_seed(finished) -> None:
    joint, _, tables = finished
    line = tables["mini-fig1-smoke"].views["landscapes"]
    assert line.groupby("pair")["alpha"].apply(list).tolist() == [[-1.0, 0.0, 1.0, 2.0]] * 2
    settings = {run.id: run.row for run in joint.plans[0].runs}
    for row in line.itertuples():
        a, b = settings[row.run_a], settings[row.run_b]
        assert (a["batch_size"], b["batch_size"], a["lr"], b["lr"]) == (20, 60, 0.05, 0.05)
        assert a["seed"] == b["seed"] == row.seed
    assert {"batch_size_a", "batch_size_b", "width_a", "complete_b", "distance"} <= set(line.columns)


def test_surfaces_audits_and_histograms_are_of_the_chosen_runs(finished) -> None:
    _, _, tables = finished
    views = tables["mini-fig1-smoke"].views
    assert len(views["surfaces"]) == 9
    counts = views["histograms"].groupby("run_id")["count"].agg(["size", "sum"])
    assert counts.to_numpy().tolist() == [[7, 64 * 12]] * 2
    results = tables["mini-fig1-smoke"].results()
    audited = results[results["rescaled_worst_case_change"].notna()]
    assert audited["seed"].tolist() == [0, 0]
    assert (audited["rescaled_worst_case_change"] < 1e-4).all()
    assert (audited["rescaled_gradient_norm_change"] > 1e-2).all()


def test_every_claim_has_a_verdict_at_its_scale(finished) -> None:
    _, _, tables = finished
    verdicts = {v.id: v for v in tables["mini-fig1-smoke"].verdicts}
    assert sorted(verdicts) == ["X1", "X2", "X3", "X4"]
    assert verdicts["X2"].verdict == "supported"
    assert all(v.scale == "smoke" and v.reason for v in verdicts.values())
    assert verdicts["X4"].rows == 4 * 3
    assert tables["mini-fig3-smoke"].verdicts == []


def test_measures_of_a_run_beside_its_loss(finished) -> None:
    _, _, tables = finished
    results = tables["mini-fig3-smoke"].results()
    assert (results["between_iterates"] > 0).all()
    assert (results["weight_kurtosis"] > 1).all()


def test_reports_and_their_index_are_the_same_bytes_from_the_store_alone(finished, tmp_path: Path) -> None:
    _, store, tables = finished
    page = write_reports(tables, tmp_path / "a")
    write_reports(collect_all(Store(store.root, create=False)), tmp_path / "b")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert {"verdicts.csv", "tracks.csv", "landscapes.parquet", "histograms.csv"} <= {f.name for f in files}
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    index = page.read_text()
    assert index.count('href="mini-fig1-smoke/index.html') >= 4
    verdicts = pd.read_csv(tmp_path / "a" / "tables" / "verdicts.csv")
    assert verdicts["study"].unique().tolist() == ["mini/fig1"]


def test_running_one_of_them_again_keeps_the_other_in_the_store(finished) -> None:
    joint, store, tables = finished
    run_plan(joint.plans[1], store, executor=InThisProcess(store.root))
    assert list(collect_all(store)) == list(tables)


def _tracking(joint):
    """The task that trains the run of seed 0, batch 20 and rate 0.2, and tracks it."""
    wanted = {"seed": 0, "batch_size": 20, "lr": 0.2}
    (run,) = (r for r in joint.plans[0].runs if wanted.items() <= r.row.items())
    (task,) = (t for t in joint.tasks() if run.id in t.products)
    return task


def test_tracking_leaves_training_as_it_is_also_when_it_is_interrupted(finished, tmp_path: Path) -> None:
    from sharpscope.studies.tasks.runs import train_run

    joint, _, _ = finished
    task = _tracking(joint)
    run, track = task.products
    torch.set_num_threads(1)

    def attempt(name: str, stop_after: int | None = None) -> Path:
        output = tmp_path / name
        for product in task.products:
            (output / product).mkdir(parents=True)
        asked = iter(range(10**6))
        context = TaskContext(
            output,
            tmp_path / "work" / name.rstrip("2"),
            missing=task.products,
            should_stop=lambda: stop_after is not None and next(asked) >= stop_after,
        )
        context.workspace.mkdir(parents=True, exist_ok=True)
        train_and_track(task.payload, context)
        return output

    plain = TaskContext(tmp_path / "plain", tmp_path / "plain-work")
    for folder in (plain.output, plain.workspace):
        folder.mkdir()
    train_run({k: task.payload[k] for k in ("run", "execution")}, plain)
    whole = attempt("whole")
    with pytest.raises(Interrupted):
        attempt("cut", stop_after=25)  # in the third of four epochs
    resumed = attempt("cut2")
    for output in (whole, resumed):
        assert (output / run / "outcome.json").read_bytes() == (plain.output / "outcome.json").read_bytes()
        mine, other = (load_file(f / "checkpoint.safetensors") for f in (output / run, plain.output))
        assert all(torch.equal(mine[name], other[name]) for name in other)
    first, second = (pd.read_parquet(o / track / "track.parquet") for o in (whole, resumed))
    pd.testing.assert_frame_equal(first, second)
    assert first["epoch"].tolist() == [1, 2, 4]


def test_a_track_of_a_run_that_is_there_already_trains_it_once_more(finished, tmp_path: Path) -> None:
    joint, store, _ = finished
    task = _tracking(joint)
    run, track = task.products
    output = tmp_path / "output"
    (output / track).mkdir(parents=True)
    context = TaskContext(output, tmp_path, missing=(track,))
    train_and_track(task.payload, context)
    again = pd.read_parquet(output / track / "track.parquet")
    stored = pd.read_parquet(store.path(track) / "track.parquet")
    pd.testing.assert_frame_equal(again, stored)
    assert not (output / run).exists()
    assert json.loads((store.path(run) / "outcome.json").read_text())["status"] == "finished"
