"""A study whose runs and measures are each computed by two processes together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sharpscope.studies import collect
from sharpscope.sweep import LocalExecutor, Store
from small_store import STUDY, small_store

MEASURES = """[[measures]]
measure = "lambda_max"
[[measures]]
measure = "margin"
"""


@pytest.mark.slow  # three sweeps, each of which starts its processes
def test_two_ranks_give_what_one_gives_under_the_same_identifiers(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpscope.sweep.LocalExecutor", LocalExecutor)  # in processes, which ranks are
    (tmp_path / "study.toml").write_text(STUDY + MEASURES)
    common = ["run", tmp_path / "study.toml", "--no-report", "--workers", 1, "--json", "--store"]
    alone = small_store(tmp_path)
    code, out, err = cli(*common, alone.root)
    assert code == 0, err
    for name in ("once", "again"):
        code, out, err = cli(*common, tmp_path / name, "--ranks", 2)
        assert (code, json.loads(out)["failed"]) == (0, 0), err
    one, two, again = (
        collect(Store(path, create=False)) for path in (alone.root, tmp_path / "once", tmp_path / "again")
    )
    assert two.runs.equals(again.runs), "the same ranks, the same bits"
    assert two.measures.equals(again.measures)
    assert one.runs["run_id"].tolist() == two.runs["run_id"].tolist()
    np.testing.assert_allclose(two.runs["train_loss"], one.runs["train_loss"], rtol=1e-5)
    assert one.measures["measure"].tolist() == two.measures["measure"].tolist()
    np.testing.assert_allclose(two.measures["value"], one.measures["value"], rtol=1e-3)
    said = dict(zip(two.measures["measure"], two.measures["protocol"], strict=True))
    assert "the data of all 2 ranks" in said["lambda_max"]
    assert "ranks" not in json.loads(said["margin"]), "needs all the data in one process, and had it"
    environments = [
        json.loads(path.read_text()) for path in (tmp_path / "once").glob("runs/*/environment.json")
    ]
    assert [found["ranks"] for found in environments] == [2, 2]


def test_a_study_that_ranks_would_train_otherwise_is_refused_before_it_runs(cli, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace("[3]", "[3], dropout = 0.1"))
    code, _, err = cli("run", tmp_path / "study.toml", "--store", tmp_path / "store", "--ranks", 2)
    assert code == 2
    assert "dropout" in err
    assert "train it with --ranks 1" in err
