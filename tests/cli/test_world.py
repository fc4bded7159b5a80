"""Commands that torchrun starts on several ranks: one output, the numbers of one process."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save

import ranks
from conftest import Call
from sharpscope.cli import world
from sharpscope.data import DataConfig, load
from sharpscope.models import ModelConfig, build

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"


def command_of_the_page() -> list[str]:
    """Return the page's command on a small model and data set that are at hand."""
    (line,) = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("$ torchrun")
    ]
    words = shlex.split(line.removeprefix("$ "))
    assert words[:5] == ["torchrun", "--nproc-per-node", "2", "-m", "sharpscope"]
    said = {"lenet5": "mlp", "fashion_mnist": "digits", "2000": "101"}
    return [said.get(word, word) for word in words[3:]]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = build(ModelConfig(name="mlp", options={"hidden": [9]}), load(DataConfig(name="digits")), 3)
    save(model.state_dict(), checkpoint_id=tmp_path / "weights", no_dist=True)
    return tmp_path / "weights"


def torchrun(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_command_of_the_page_gives_what_one_process_does(
    weights: Path, cli: Call, monkeypatch: pytest.MonkeyPatch
):
    words = [*command_of_the_page(), "--option", "hidden=[9]", "--set", "trace.samples=4", "--json"]
    ended = torchrun(weights.parent, words)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)  # one document: the first rank's
    monkeypatch.chdir(weights.parent)
    code, out, err = cli(*[word for word in words[2:] if word != "--shard"])
    assert code == 0, err
    alone = json.loads(out)
    assert found["samples"] == alone["samples"] == 101
    assert found["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    for mine, theirs in zip(found["measures"], alone["measures"], strict=True):
        assert mine["measure"] == theirs["measure"]
        assert mine["value"] == pytest.approx(theirs["value"], rel=1e-6)
        assert "parameters and data sharded over 2 ranks" in mine["protocol"]


def command(rank: int, words: list[str]) -> int:
    """Run a command of ours as one rank of two, as torchrun would."""
    from sharpscope.cli.app import status_of_call

    os.environ["RANK"] = str(rank)
    sys.argv = ["sharpscope", *words]
    return status_of_call()


def patient_command(rank: int, words: list[str]) -> int:
    """Do the same; the ranks are ended before the time after which the others speak up, however slow they are."""
    from sharpscope.cli import app

    app.QUIET = ranks.PATIENCE
    return command(rank, words)


WORLD = {"TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "localhost", "WORLD_SIZE": "2"}
ON_DIGITS = ["examine", "mlp", "--option", "hidden=[9]", "--data", "digits", "--samples", "64"]


def test_one_page_is_written(weights: Path, tmp_path: Path):
    world = tmp_path / "world"
    world.mkdir()
    without = "audit,surface,density,by_layer,worst_case,average_direction,trace,frobenius_norm"
    words = [
        *ON_DIGITS,
        "--checkpoint",
        str(weights),
        "--without",
        without,
        "--deadline",
        "1h",
        "-o",
        str(tmp_path / "page.html"),
    ]
    ranks.finish(ranks.start(2, command, world, words, environment=WORLD), world)
    assert [(world / f"{rank}.json").read_text() for rank in range(2)] == ["0", "0"]
    assert (tmp_path / "page.html").stat().st_size > 1000
    first, second = ((world / f"{rank}.said").read_text() for rank in range(2))
    assert first.count("page: ") == 1
    assert "page: " not in second


def test_an_error_is_one_sentence_of_the_first_rank(tmp_path: Path):
    words = [*ON_DIGITS, "--checkpoint", "nowhere"]
    first, second = ranks.start(2, patient_command, tmp_path, words, environment=WORLD)
    first.join(ranks.PATIENCE)
    second.kill()  # as torchrun does when a rank has failed
    second.join()
    assert (tmp_path / "0.json").read_text() == "2"
    said = [line for line in (tmp_path / "0.said").read_text().splitlines() if "error: " in line]
    assert len(said) == 1
    assert "nowhere" in said[0]
    assert "error: " not in (tmp_path / "1.said").read_text(), "the others wait to be ended"


def test_a_folder_of_weights_serves_one_process(weights: Path, cli: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(weights.parent)
    arguments = [
        "measure",
        "mlp",
        "--option",
        "hidden=[9]",
        "--data",
        "digits",
        "--measures",
        "gradient_norm",
    ]
    code, out, err = cli(*arguments, "--samples", 50, "--checkpoint", "weights")
    assert code == 0, err
    assert "gradient_norm" in out


def test_shard_needs_torchrun_and_a_rank_its_own_device(cli: Call, monkeypatch: pytest.MonkeyPatch):
    code, _, err = cli("measure", "mlp", "--data", "digits", "--shard")
    assert code == 2
    assert "torchrun --nproc-per-node 2" in err
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "localhost", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    code, _, err = cli("measure", "mlp", "--data", "digits", "--device", "cuda:1")
    assert code == 2
    assert "gives every rank a device of its own" in err


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_parts_are_even_and_whole_batches_stay_whole(rank: int, monkeypatch: pytest.MonkeyPatch):
    environment = {
        "TORCHELASTIC_RUN_ID": "x",
        "MASTER_ADDR": "localhost",
        "WORLD_SIZE": "3",
        "RANK": str(rank),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    x = torch.arange(11.0)
    here = world.World(None, "cpu", False)
    ((own, targets),) = here.own_part([(x, x)], whole=False)
    assert own.tolist() == targets.tolist() == x.tolist()[rank * 11 // 3 : (rank + 1) * 11 // 3]
    batches = [(x[i : i + 1], x[i : i + 1]) for i in range(2)]
    assert [len(here.own_part(batches, whole=True))] == [[0, 1, 1][rank]]
    assert len(here.own_part([(x[:1], x[:1])], whole=False)) == (rank == 2)
