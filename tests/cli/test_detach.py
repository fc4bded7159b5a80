"""A sweep that goes on without its terminal, and the command that follows it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from small_store import small_store


def test_a_detached_sweep_can_be_followed_to_its_end(cli, tmp_path: Path, monkeypatch) -> None:
    store = small_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, _, err = cli("attach", "store")
    assert code == 2
    assert "no sweep was detached into the store" in err
    code, out, err = cli("run", "two.toml", "--store", "store", "--no-report", "--detach", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert os.getsid(said["process"]) == said["process"], "a session of its own, which no terminal ends"
    code, out, err = cli("attach", store.root)
    assert (code, err) == (0, "")
    assert "2 runs, 1 measures" in out or "2 runs, 2 measures" in out
    assert "exit status" not in out
    assert Path(said["log"]).read_text().endswith("exit status 0\n")
    assert cli("status", store.root, "--verify")[0] == 0


def test_a_sweep_that_ended_badly_is_told(cli, tmp_path: Path) -> None:
    store = small_store(tmp_path)
    folder = store.root / ".detached"
    folder.mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    log = folder / f"{socket.gethostname()}-{gone.pid}.log"
    log.write_text("some words\n")
    code, out, err = cli("attach", store.root)
    assert (code, out) == (2, "some words\n")
    assert "the sweep died without a last word" in err
    log.write_text("error: no such thing\nexit status 2\n")
    assert cli("attach", store.root) == (2, "error: no such thing\n", "")


def test_what_cannot_run_is_refused_before_it_is_detached(cli, tmp_path: Path) -> None:
    store = small_store(tmp_path)
    code, _, err = cli("run", tmp_path / "two.toml", "--store", store.root, "--detach", "--gpus", 1)
    assert code == 2
    assert "--gpus is 1 and --device cpu uses none" in err
    with pytest.raises(StopIteration):
        next(store.root.glob(".detached/*"))
