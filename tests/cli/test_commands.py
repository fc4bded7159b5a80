"""The command line as a person uses it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from in_process import run_study
from sharpscope.cli.app import app

STUDY = """
name = "tiny"
[run]
data = { name = "digits", train_samples = 120, test_samples = 60 }
model = { name = "mlp", options = { hidden = [6] } }
optimizer = { name = "sgd", lr = 0.1 }
batch_size = 40
stop = { epochs = 2 }
[grid]
seed = [0, 1]
[[measures]]
measure = "lambda_max"
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(STUDY)
    return run_study(folder / "tiny.toml", folder / "store").root


def test_help_needs_no_torch_and_lists_every_command() -> None:
    script = "import sys; sys.argv = ['sharpscope', '--help']\nfrom sharpscope.cli import main\n"
    script += "try: main()\nfinally: sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'pydantic')))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert shown.returncode == 0
    listed = re.findall(r"^  ([a-z]+)  ", shown.stdout.partition("Commands:")[2], re.MULTILINE)
    assert sorted(listed) == sorted(c.callback.__name__ for c in app.registered_commands if c.callback)


def test_data_lists_every_set(cli) -> None:
    code, out, _ = cli("data", "--json")
    listed = {s["name"]: s for s in json.loads(out)}
    assert code == 0
    names = ["digits", "fashion_mnist", "cifar10", "abalone", "cora", "python_manual", "python_source"]
    assert list(listed) == names
    assert listed["digits"]["total"] == 1797
    if "SHARPSCOPE_DATA" in os.environ:
        sizes = {n: (s["total"], s["train"], s["validation"], s["test"]) for n, s in listed.items()}
        assert sizes["fashion_mnist"] == (70000, 60000, 0, 10000)
        assert sizes["cifar10"] == (60000, 50000, 0, 10000)
        assert sizes["abalone"][0] == 4177
        assert sizes["cora"] == (2708, 140, 500, 1000)
        assert all(s["found"] for s in listed.values())
    assert "1797 images" in cli("data")[1]


def test_models_lists_parameter_counts(cli) -> None:
    listed = {m["name"]: m["parameters"] for m in json.loads(cli("models", "--json")[1])}
    assert listed["vgg11"] == 9_750_922
    assert "9,750,922" in cli("models")[1]


def test_measures_lists_every_definition_and_one_with_its_options(cli) -> None:
    from sharpscope.measures import REGISTRY

    code, out, _ = cli("measures", "--json")
    listed = {m["name"]: m for m in json.loads(out)}
    assert code == 0
    assert list(listed) == list(REGISTRY)
    assert listed["worst_case"]["rescaling_invariant"] is True
    assert listed["worst_case"]["options"]["batch_size"] == 64
    assert all(m["definition"] and m["cost"] for m in listed.values())
    table = cli("measures")[1]
    assert all(name in table for name in REGISTRY)
    one = cli("measures", "pac_bayes_sigma")[1]
    assert "deviation = 0.1" in one
    assert "changed by rescalings: yes" in one
    code, _, err = cli("measures", "flatness")
    assert code == 2
    assert "must be one of" in err


def test_status_report_and_a_second_run(cli, store: Path) -> None:
    code, out, _ = cli("status", store)
    assert code == 0
    assert re.search(r"runs +2 +0 +0", out)
    assert re.search(r"lambda_max +2 +0 +0", out)
    code, out, _ = cli("report", store, "--json")
    assert Path(json.loads(out)["report"]).read_text().lower().startswith("<!doctype html>")
    code, out, _ = cli("run", store.parent / "tiny.toml", "--store", store, "--json")
    assert code == 0
    assert (json.loads(out)["done"], json.loads(out)["skipped"]) == (0, 4)


def test_measure_of_our_own_checkpoint_needs_nothing_else(cli, store: Path) -> None:
    run = next((store / "runs").iterdir())
    stored = [json.loads(p.read_text()) for p in store.glob("measures/*/measure.json")]
    seed = json.loads((run / "config.json").read_text())["seed"]
    code, out, _ = cli(
        "measure",
        "--checkpoint",
        run / "checkpoint.safetensors",
        "--measures",
        "lambda_max",
        "--seed",
        seed,
        "--json",
    )
    assert code == 0
    shown = json.loads(out)
    ours = next(m for m in stored if m["run_id"] == run.name)
    assert shown["fingerprint"] == ours["fingerprint"]
    assert shown["measures"][0]["value"] == pytest.approx(ours["value"], rel=1e-4)
    assert shown["parameters"] == 64 * 6 + 6 + 6 * 10 + 10


def test_measure_of_a_users_own_factory_and_safetensors(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "def build(width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.ReLU(), torch.nn.Linear(5, 10)
    )
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    code, out, _ = cli(
        "measure", "mynet:build", "--option", "width=5", "--checkpoint", "w.safetensors", "--data", "digits",
        "--samples", 100, "--measures", "trace,average_direction", "--set", "trace.samples=4",
        "--set", "average_direction.samples=6",
    )  # fmt: skip
    assert code == 0
    assert "loss" in out
    assert "100 train samples of digits" in out
    assert '"samples": 4' in out


def _bad_inputs(tmp_path: Path, store: Path) -> dict[str, list[object]]:
    good = STUDY
    studies = {
        "unknown model": good.replace('"mlp"', '"mpl"'),
        "unknown model option": good.replace("hidden", "hiden"),
        "empty grid": good.replace("[0, 1]", "[]"),
        "nan rate": good.replace("lr = 0.1", "lr = nan"),
        "unknown optimizer": good.replace('"sgd"', '"sdg"'),
        "unknown key": good.replace("batch_size", "batchsize"),
        "unknown data": good.replace('"digits"', '"mnist"'),
        "unknown measure": good.replace('"lambda_max"', '"lambda"'),
        "batch larger than the data": good.replace("batch_size = 40", "batch_size = 4000"),
        "more samples than there are": good + "[objective]\nsamples = 100000\n",
        "no toml": "name = = 3",
        "own model that is not there": good.replace('"mlp", options = { hidden = [6] }', '"nowhere:build"'),
    }
    cases: dict[str, list[object]] = {}
    for name, text in studies.items():
        file = tmp_path / f"{name.replace(' ', '_')}.toml"
        file.write_text(text)
        cases[name] = ["run", file, "--store", tmp_path / "new"]
    fine = tmp_path / "fine.toml"
    fine.write_text(good)
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("")
    checkpoint = next((store / "runs").iterdir()) / "checkpoint.safetensors"
    (tmp_path / "cut.safetensors").write_bytes(checkpoint.read_bytes()[:500])
    torch.save({"w": torch.ones(1)}, tmp_path / "pickle.pt")
    return cases | {
        "missing study": ["run", tmp_path / "none.toml"],
        "file in place of the store": ["run", fine, "--store", tmp_path / "file"],
        "foreign folder as store": ["run", fine, "--store", tmp_path / "foreign"],
        "no store": ["status", tmp_path / "nowhere"],
        "no store to report": ["report", tmp_path / "nowhere"],
        "missing data folder": ["data", "--data-dir", tmp_path / "nowhere"],
        "corrupt checkpoint": ["measure", "--checkpoint", tmp_path / "cut.safetensors"],
        "pickle": ["measure", "mlp", "--data", "digits", "--checkpoint", tmp_path / "pickle.pt"],
        "another model's checkpoint": ["measure", "lenet5", "--option", "padding=2", "--data", "digits",
                                       "--checkpoint", checkpoint],
        "missing checkpoint": ["measure", "--checkpoint", tmp_path / "none.safetensors"],
        "neither model nor checkpoint": ["measure"],
        "unknown measure to take": ["measure", "mlp", "--data", "digits", "--measures", "flatness"],
        "unknown measure option": ["measure", "mlp", "--data", "digits", "--measures", "trace", "--set", "trace.x=1"],
        "bad option value": ["measure", "mlp", "--data", "digits", "--option", "hidden=[0]"],
        "bad part": ["measure", "mlp", "--data", "digits", "--part", "validation"],
        "no cuda": ["run", fine, "--device", "tpu", "--store", tmp_path / "new"],
    }  # fmt: skip


def test_bad_input_gives_one_sentence_and_exit_status_2(cli, tmp_path: Path, store: Path) -> None:
    cases = _bad_inputs(tmp_path, store)
    assert len(cases) >= 10
    for name, arguments in cases.items():
        code, out, err = cli(*arguments)
        assert code == 2, (name, out, err)
        assert err.startswith("error: "), (name, err)
        assert err.count("\n") == 1, (name, err)
        assert "Traceback" not in err, name
        assert out == "", name
    assert not (tmp_path / "new" / "runs").exists()


@pytest.mark.parametrize("arguments", [["--wrong"], ["run"], ["run", "x", "--workers", "0"], ["dance"]])
def test_wrong_usage_is_status_2_without_a_traceback(cli, arguments: list[str]) -> None:
    code, _, err = cli(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_a_shuffling_loader_is_refused_in_one_sentence() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    from sharpscope import InputError, Objective

    loader = DataLoader(TensorDataset(torch.randn(8, 2), torch.zeros(8, dtype=torch.long)), 4, shuffle=True)
    with pytest.raises(InputError, match="shuffle=False"):
        Objective(torch.nn.Linear(2, 2), torch.nn.functional.cross_entropy, loader)


def heartbeats(store: Path) -> list[str]:
    """What the coordinators at work say of themselves."""
    found = []
    for path in store.glob("coordinators/*.json"):
        with contextlib.suppress(FileNotFoundError):  # replaced while we look
            found.append(path.read_text().replace('"fraction": null', "").replace('"fraction":null', ""))
    return found


@pytest.mark.slow
def test_ctrl_c_finishes_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    study = tmp_path / "long.toml"
    study.write_text(STUDY.replace("epochs = 2", "epochs = 4000").replace("[0, 1]", "[0]"))
    # a heartbeat every two seconds: with 2000 epochs the run was over before the third was seen
    command = [sys.executable, "-m", "sharpscope", "run", str(study), "--store", str(tmp_path / "store")]
    command.append("--no-report")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not any('"fraction"' in text for text in heartbeats(tmp_path / "store")):  # it trains
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "goes on from here" in out
    assert "Traceback" not in err
    assert list(tmp_path.glob("store/work/*/*"))  # the run has saved itself
    assert not list(tmp_path.glob("store/runs/*"))
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert not list(tmp_path.glob("store/work/*"))


@pytest.mark.parametrize("columns", ["40", "200"])
def test_narrow_and_wide_terminals(columns: str) -> None:
    for command in (["data"], ["--help"]):
        shown = subprocess.run(
            [sys.executable, "-m", "sharpscope", *command],
            env={**os.environ, "COLUMNS": columns},
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0, shown.stderr


def test_audit_says_which_measures_are_comparable(cli, store: Path) -> None:
    checkpoint = next((store / "runs").glob("*/checkpoint.safetensors"))
    arguments = (
        "audit",
        "--checkpoint",
        checkpoint,
        "--measures",
        "gradient_norm,worst_case",
        "--samples",
        40,
    )
    arguments += ("--set", "worst_case.batch_size=20", "--set", "worst_case.restarts=2", "--repetitions", 2)
    code, out, _ = cli(*arguments)
    assert code == 0
    assert re.search(r"gradient_norm .* NO +[\d.]+\n", out)
    assert re.search(r"worst_case .* yes +[\d.]+\n", out)
    found = json.loads(cli(*arguments, "--json")[1])
    assert found["rescalings"] == ["layers.1 → layers.3 (6 channels)"]
    assert [m["invariant"] for m in found["measures"]] == [False, True]
    assert found["function_change"] < 1e-10
    usual = json.loads(cli("audit", "--checkpoint", checkpoint, "--json")[1])
    assert usual["samples"] == 16
    moved = {m["measure"]: m["largest"] for m in usual["measures"]}
    survive = {label for label in moved if label.endswith("_adaptive")} | {"geodesic_sharpness"}
    assert all((change < 1e-4) == (label in survive) for label, change in moved.items()), moved


def test_measure_prints_what_each_measure_cost(cli, store: Path) -> None:
    checkpoint = next((store / "runs").glob("*/checkpoint.safetensors"))
    code, out, _ = cli(
        "measure", "--checkpoint", checkpoint, "--measures", "gradient_norm,trace", "--samples", 40
    )
    assert code == 0
    assert re.search(r"total: 0 losses, 1 gradients, \d+ products over the data, [\d.]+ s\n", out)


def test_interpolate_and_surface_draw_what_they_find(cli, store: Path, tmp_path: Path) -> None:
    first, second = sorted((store / "runs").glob("*/checkpoint.safetensors"))
    code, out, _ = cli(
        "interpolate", first, second, "--points", 7, "--samples", 40, "--output", tmp_path, "--json"
    )
    found = json.loads(out)
    assert code == 0
    losses = {p["alpha"]: p["loss"] for p in found["points"]}
    assert [losses[0.0], losses[1.0]] == pytest.approx(found["own_losses"], rel=1e-6)
    assert set(found["basin_width"]) == {"a", "b"}
    code, out, _ = cli(
        "surface", first, "--points", 3, "--samples", 40, "--trajectory", second, "--output", tmp_path
    )
    assert code == 0
    assert "of the trajectory's squared distance" in out
    for name in ("interpolation", "surface"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()[:500]
        assert not (tmp_path / f"{name}.partial.json").exists()


def test_league_takes_the_runs_of_stores(cli, store: Path) -> None:
    code, out, _ = cli("league", store, store, "--json")
    assert code == 0
    (row,) = json.loads(out)["measures"]
    assert (row["measure"], row["n"]) == ("lambda_max", 2)
    assert row["note"] == "2 runs with a finite value are too few"
