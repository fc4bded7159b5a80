"""Outputs of every kind: closed, full, piped into head, narrow, without Greek letters; a stop during the start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.main

from sharpscope.cli.app import app
from sharpscope.cli.streams import visible
from small_store import STUDY, small_store

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

LOST = """[[claims]]
id = "C"
statement = "The gap rises with the rate."
kind = "trend"
x = "lr"
y = "gap"
direction = "rising"

"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("streams")
    small_store(made)
    return made


def shell(line: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run a line of the shell in which ``sharpscope`` is this one; return (exit status, stdout, stderr)."""
    given = f'set -o pipefail; sharpscope() {{ "{sys.executable}" -m sharpscope "$@"; }}; {line}'
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        ["bash", "-c", given],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_full_output_is_told_in_one_sentence(folder: Path) -> None:
    code, _, err = shell("sharpscope status store >/dev/full", folder)
    assert code in (1, 2)
    assert err.startswith("error: ")
    assert "No space left on device" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_no_error_and_no_file_takes_its_place(folder: Path, closed: str) -> None:
    code, _, err = shell(f"sharpscope report store --output closed {closed}", folder)
    assert (code, err) == (0, "")
    assert (folder / "closed" / "index.html").read_text().startswith("<!doctype html>")
    assert (folder / "closed" / "tables" / "results.csv").read_text().startswith("run_id,")


def test_a_reader_that_leaves_early_is_no_error_of_ours(folder: Path) -> None:
    code, out, err = shell("sharpscope models --json | head -c 1", folder)
    assert out == "["
    assert err == ""
    assert code in (0, 1, 141)


def test_a_terminal_without_greek_letters_gets_them_spelled(cli, folder: Path) -> None:
    assert not cli("models")[1].isascii()
    code, out, err = shell(
        "sharpscope studies patriarca2024/fig1a --no-cost; sharpscope models", folder, **ASCII
    )
    assert (code, err) == (0, "")
    assert out.isascii()
    assert "?" not in out
    code, out, err = shell("sharpscope models --json", folder, **ASCII)
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(cli("models", "--json")[1])


def test_a_narrow_terminal_shows_everything(folder: Path) -> None:
    narrow = shell("sharpscope status store; sharpscope run --help", folder, COLUMNS="40")[1]
    assert "gradient_norm" in narrow
    assert max(map(len, narrow.partition("Usage")[2].splitlines())) <= 60


def test_json_is_valid_where_runs_diverged_and_warnings_were_given(cli, tmp_path: Path) -> None:
    study = tmp_path / "lost.toml"
    study.write_text(
        STUDY.replace("0.1, 0.3", "0.1, 1e12")
        .replace("[3]", "[8]")
        .replace("[[measures]]", LOST + "[[measures]]")
    )
    calls: dict[str, list[object]] = {
        "run": [study, "--store", tmp_path / "store"],
        "status": [tmp_path / "store", "--verify"],
        "league": [tmp_path / "store"],
        "report": [tmp_path / "store"],
        "export": [tmp_path / "store", "--output", tmp_path / "tables"],
        "retry": [tmp_path / "store", "--failed"],
        "gc": [tmp_path / "store"],
        "studies": [study, "--no-cost"],
        "data": [],
        "models": [],
        "measures": [],
    }
    for command, arguments in calls.items():
        code, out, err = cli(command, *arguments, "--json")
        assert code == 0, (command, err)
        assert json.loads(out, parse_constant=pytest.fail), command
    lost = next(
        path for path in (tmp_path / "store").glob("runs/*/outcome.json") if "diverged" in path.read_text()
    )
    checkpoint = lost.parent / "checkpoint.safetensors"
    few = ["--samples", 4, "--output", tmp_path / "of_the_lost"]
    of_a_checkpoint: dict[str, list[object]] = {
        "measure": ["--checkpoint", checkpoint, *few[:2], "--measures", "gradient_norm,lambda_max"],
        "audit": ["--checkpoint", checkpoint, *few[:2], "--measures", "gradient_norm,lambda_max"],
        "examine": [checkpoint, *few[:2]],
        "interpolate": [checkpoint, checkpoint, *few],
        "surface": [checkpoint, *few],
    }
    for command, arguments in of_a_checkpoint.items():
        code, out, err = cli(command, *arguments, "--json")
        assert code in (0, 2), (command, err)
        assert code == 2 or json.loads(out, parse_constant=pytest.fail)
        assert code == 0 or err.lower().count("error: ") == 1, (command, err)
    speak = {name for name, one in COMMANDS.items() if any(option.name == "json" for option in one.params)}
    own = {"demo": "run of another study", "plan": "no store, see its tests"}
    assert speak - {*calls, *of_a_checkpoint, *own} == set(), "a command with --json that no test asks for it"


@pytest.mark.parametrize("after", [0.02, 0.1, 0.3, 0.6, 1.0, 1.5])
def test_a_stop_during_the_start_leaves_no_traceback(folder: Path, after: float) -> None:
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "print('up', flush=True)\nimport sys; sys.argv = ['sharpscope', 'run', 'two.toml', '--store', 'new']\n"
    script += "from sharpscope.cli import main\nmain()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert started.stdout is not None
    started.stdout.readline()
    while_importing = time.monotonic() + after
    while time.monotonic() < while_importing and started.poll() is None:
        time.sleep(0.005)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    if (
        b"sharpscope/__init__" not in err
    ):  # the package itself was not there yet: nothing of ours could catch it
        assert b"Traceback" not in err, err.decode()
    assert started.returncode in (0, 130, -signal.SIGINT)


def test_a_stop_that_a_library_hands_on_as_its_own_error_is_one(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise ValueError('Error building "literal" validator:\nKeyboardInterrupt: ')

    monkeypatch.setattr("sharpscope.cli.app.app", interrupted)
    code, _, err = cli("models")
    assert (code, err.count("\n")) == (130, 1)
    assert "interrupted" in err


def test_control_characters_of_stored_names_are_shown_as_escapes(cli, tmp_path: Path) -> None:
    store = small_store(tmp_path)
    study = store.read_study()
    assert study is not None
    store.write_study({**study, "title": "\x1b]0;owned\x07\x1b[2J title \u202e"})
    code, out, err = cli("status", store.root)
    assert code == 0, err
    assert "\x1b" not in out
    assert r"\x1b]0;owned\x07\x1b[2J title \u202e" in out
    assert visible("λ\tnew\nline") == "λ\tnew\nline"
