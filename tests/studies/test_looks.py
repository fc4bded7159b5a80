"""Seeds added look by look: where it stops, where it goes on, what survives a kill, what is called unplanned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sharpscope import InputError
from sharpscope.studies import collect, load_study, make_plan
from sharpscope.studies.looks import PLANNED, with_seeds
from sharpscope.studies.results.records import change_looks, read_records
from sharpscope.sweep import Store

STUDY = """name = "until"
[run]
data = { name = "digits", train_samples = 100, test_samples = 100 }
model = { name = "mlp", options = { hidden = [32] } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = 50
stop = { epochs = 8 }
initial_weights = "shared"
[grid]
optimizer.lr = [0.001, 0.3]
seed = [7, 3]
[[claims]]
id = "clear"
statement = "Training loss falls with the rate."
kind = "trend"
x = "lr"
y = "train_loss"
direction = "falling"
requires = {}
"""
OPEN = """[[claims]]
id = "open"
statement = "The differences 7, 3, 0, 1 and 2, times a constant: five of them do not decide."
kind = "paired"
y = "seed * lr"
a = { lr = 0.3 }
b = { lr = 0.001 }
direction = "greater"
requires = {}
"""


def store_of(folder: Path) -> Store:
    return Store(folder / "store", create=False)


def looks_of(folder: Path) -> dict[str, object]:
    (record,) = read_records(store_of(folder))
    return record["looks"]


def test_seeds_are_the_file_s_own_and_then_the_smallest_that_are_left(tmp_path: Path) -> None:
    (tmp_path / "until.toml").write_text(STUDY)
    study = load_study(tmp_path / "until.toml")
    seeds = {n: [run.config.seed for run in make_plan(with_seeds(study, n)).runs[:n]] for n in (1, 2, 5)}
    assert seeds == {1: [7], 2: [7, 3], 5: [7, 3, 0, 1, 2]}
    (tmp_path / "none.toml").write_text(STUDY.replace("seed = [7, 3]\n", ""))
    plan = make_plan(with_seeds(load_study(tmp_path / "none.toml"), 2))
    assert {run.config.seed for run in plan.runs} == {0, 1}
    (tmp_path / "cases.toml").write_text(
        STUDY.replace("seed = [7, 3]", "cases = [{ seed = 1, batch_size = 20 }]")
    )
    with pytest.raises(InputError, match="make seed an axis of the grid"):
        with_seeds(load_study(tmp_path / "cases.toml"), 2)
    (tmp_path / "drawn.toml").write_text(STUDY.replace("seed = [7, 3]", "seed = [7, 3]\ndraws = 4"))
    with pytest.raises(InputError, match="seeds cannot be added where settings are drawn"):
        with_seeds(load_study(tmp_path / "drawn.toml"), 2)


def test_it_stops_where_all_is_decided_and_tells_of_seeds_that_were_not_planned(cli, tmp_path: Path) -> None:
    (tmp_path / "until.toml").write_text(STUDY)
    call = ["run", tmp_path / "until.toml", "--store", tmp_path / "store", "--until", "decided"]
    code, out, err = cli(*call, "--looks", "3,4,5")
    assert code == 0, err
    assert "looks taken at 3 seeds, left: 4, 5; every claim is decided" in out
    assert looks_of(tmp_path) == {"planned": [3, 4, 5], "taken": [3], "open": []}
    assert len(collect(store_of(tmp_path)).runs) == 6
    foresee(cli, tmp_path)
    code, out, _ = cli(*call, "--json")
    assert json.loads(out)["looks"][0]["left"] == [4, 5]
    assert json.loads(out)["done"] == 0
    code, _, err = cli(*call, "--looks", "3,9")
    assert code == 2
    assert "looks at until were planned at 3, 4, 5 seeds, received 3, 9; leave --looks out" in err
    (tmp_path / "until.toml").write_text(STUDY.replace("seed = [7, 3]", "seed = [7, 3, 0, 1, 2, 4]"))
    code, out, _ = cli("run", tmp_path / "until.toml", "--store", tmp_path / "store")
    assert code == 0
    assert "unplanned look at 6 seeds" in out
    (verdict,) = collect(store_of(tmp_path)).verdicts
    assert "unplanned" in verdict.caveat
    assert looks_of(tmp_path)["taken"] == [3, 6]


def test_of_several_experiments_those_that_take_no_seeds_are_run_as_they_are(cli, tmp_path: Path) -> None:
    shared, _, claim = STUDY.partition("[grid]\n")
    grid, _, claim = claim.partition("[[claims]]\n")
    claim = claim.replace("[[", "[[experiments.")
    (tmp_path / "own.toml").write_text(
        f"""{shared.replace('"until"', '"own"').replace("epochs = 8", "epochs = 4")}
[[experiments]]
id = "grows"
[experiments.grid]
{grid}[[experiments.claims]]
{claim}
[[experiments]]
id = "drawn"
[experiments.grid]
draws = 3
optimizer.lr = {{ low = 0.001, high = 0.3 }}
seed = [7]
[[experiments.claims]]
{claim}
[[experiments]]
id = "silent"
[experiments.grid]
optimizer.lr = [0.1]
"""
    )
    call = ["--store", tmp_path / "store", "--until", "decided", "--looks", "3,4", "--json"]
    code, out, err = cli("run", tmp_path / "own.toml", *call)
    assert code == 0, err
    taken = {one["study"]: one["taken"] for one in json.loads(out)["looks"]}
    assert taken == {"own/grows": [3], "own/drawn": [1], "own/silent": [1]}
    store = store_of(tmp_path)
    change_looks(store, "own/drawn", "own", {"planned": [1, 2], "taken": [1], "open": ["clear"]})
    code, _, err = cli(
        "run", tmp_path / "own.toml", *call
    )  # a look that was planned before settings were drawn
    assert code == 0, err
    for alone, words in (
        ("drawn", "seeds cannot be added where settings are drawn"),
        ("silent", "has no claims"),
    ):
        code, _, err = cli("run", f"{tmp_path / 'own.toml'}/{alone}", *call)
        assert code == 2
        assert words in err


def foresee(cli, folder: Path) -> None:
    """From these runs `sharpscope plan` says how likely the claim is to be decided, and what that costs."""
    asked = ["plan", folder / "until.toml", "--store", folder / "store"]
    code, out, err = cli(*asked, "--seeds", "5,3", "--json")
    assert code == 0, err
    (found,) = json.loads(out)
    assert found["basis"] == "6 earlier runs with 3 seeds"
    (claim,) = found["claims"]
    assert 0.5 < claim["chance"]["3"] <= claim["chance"]["5"] <= 1
    assert 2 <= claim["needed"] <= 5
    assert found["runs"] == {"3": 6, "5": 10}
    assert found["core_hours"]["5"] == pytest.approx(found["core_hours"]["3"] * 10 / 6)
    assert found["cost_basis"] == "what the earlier runs took"
    code, out, _ = cli(*asked, "--looks", "3,4,5")
    assert code == 0
    assert "3 seeds  4 seeds  5 seeds  seeds for 80 %" in out
    (planned,) = json.loads(cli(*asked, "--looks", "3,4,5", "--json")[1])
    assert planned["claims"][0]["chance"]["3"] <= claim["chance"]["3"]  # several looks share the level
    assert planned["claims"][0]["needed"] >= claim["needed"]


@pytest.mark.slow
def test_it_goes_on_where_a_claim_is_open_survives_a_kill_and_keeps_to_its_budget(
    cli, tmp_path: Path
) -> None:
    (tmp_path / "until.toml").write_text(STUDY + OPEN)
    store = tmp_path / "store"
    call = ["run", tmp_path / "until.toml", "--store", store, "--until", "decided"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "sharpscope", *map(str, call), "--looks", "3,4,5", "--workers", "1"]
    started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(store.glob("runs/*"))) < 7:  # the second look has begun
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.send_signal(signal.SIGKILL)
    started.wait()
    looks = looks_of(tmp_path)
    assert looks["planned"] == [3, 4, 5]
    assert looks["taken"] in ([3], [3, 4])  # the kill may have come just after the second look
    assert looks["open"] == ["open"]
    kept = {path: path.stat().st_mtime_ns for path in store.glob("runs/*/outcome.json")}
    code, out, _ = cli(*call, "--budget", "0.000001s")
    assert code == 0
    assert "the next look would end after the budget" in out
    assert looks_of(tmp_path) == looks
    code, out, err = cli(*call)
    assert code == 0, err
    assert "looks taken at 3, 4, 5 seeds, left: none; open: open" in out
    assert "no planned look is left" in out
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    clear, still_open = collect(store_of(tmp_path)).verdicts
    assert clear.verdict == "supported"
    assert still_open.verdict == "inconclusive"
    assert clear.level > 0.97  # of each of three looks
    assert "look 3 of 3" in clear.look


def test_bad_arguments_are_refused(cli, tmp_path: Path) -> None:
    (tmp_path / "until.toml").write_text(STUDY.partition("[[claims]]")[0])
    for arguments, words in (
        (["--looks", "3,5"], "belong to --until decided"),
        (["--until", "decided", "--looks", "5,3"], "looks are numbers of seeds that rise"),
        (["--until", "decided", "--budget", "soon"], "--budget must be a time such as 90s, 15m, 1h30m or 1d"),
        (["--until", "decided"], "until has no claims to be decided"),
    ):
        code, _, err = cli("run", tmp_path / "until.toml", "--store", tmp_path / "store", *arguments)
        assert code == 2
        assert words in err
    assert PLANNED == (3, 5, 8, 12)
