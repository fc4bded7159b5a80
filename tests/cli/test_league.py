"""The league as a person calls it, on a pool made by hand."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from sharpscope.studies.results import pool as module
from sharpscope.sweep import Store


def pool(stores):
    assert all(isinstance(store, Store) for store in stores)
    draw = np.random.default_rng(0)
    runs = pd.DataFrame({"run_id": [f"r{i}" for i in range(8)], "configuration": list("abcdabcd")})
    runs = runs.assign(study="tiny", status="finished", lr=[1, 2, 3, 4] * 2, seed=[0] * 4 + [1] * 4)
    runs = runs.assign(train_loss=0.1 + 0.001 * draw.normal(size=8), gap=draw.normal(size=8))
    values = {"trace": runs["gap"] * 2, "norm": draw.normal(size=8), "flat": 1.0}
    long = [pd.DataFrame({"run_id": runs["run_id"], "measure": m, "value": v}) for m, v in values.items()]
    return module.Pool(runs, pd.concat(long, ignore_index=True), ("lr",), ("One thing to know.",))


@pytest.fixture
def league(cli, monkeypatch, tmp_path):
    Store(tmp_path / "store")
    monkeypatch.setattr(module, "pool_stores", pool)
    return lambda *arguments: cli("league", tmp_path / "store", *arguments)


def test_text_json_and_file_agree(league, tmp_path):
    code, text, _ = league("--csv", tmp_path / "league.csv")
    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith("8 runs, gap predicted")
    assert lines[1].split()[:2] == ["rank", "measure"]
    assert "trace" in lines[2]
    assert "+1.00" in lines[2]
    assert "flat: constant measure" in lines
    assert "note: One thing to know." in lines
    assert any(line.startswith("note: All statistics rest on 4 independent configurations") for line in lines)
    found = json.loads(league("--json")[1])
    assert [row["measure"] for row in found["measures"]] == ["trace", "norm", "flat"]
    assert (found["axes"], found["target"]) == (["lr"], "gap")
    assert found["measures"][2]["tau"] is None
    written = pd.read_csv(tmp_path / "league.csv")
    assert written["tau"][1] == pytest.approx(found["measures"][1]["tau"])


def test_measures_are_chosen(league):
    found = json.loads(league("--measures", "norm, trace", "--json")[1])["measures"]
    assert {row["measure"] for row in found} == {"norm", "trace"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--measures", "rank"], "--measures must be among trace, norm, flat, received 'rank'"),
        (["--target", "accuracy"], "needs the column 'accuracy'"),
        (["--given", "loss"], "needs the column 'loss'"),
        (["--csv", "/nowhere/league.csv"], "No such file or directory"),
        (["nothing-here"], "there is no store at .*nothing-here"),
    ],
)
def test_errors_are_one_sentence(league, arguments, said):
    code, _, err = league(*arguments)
    assert code == 2
    assert re.search(said, err)
    assert err.count("\n") == 1
