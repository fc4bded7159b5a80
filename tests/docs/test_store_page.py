"""The commands of the page on stores, run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sharpscope.sweep.store.liveness import SILENCE
from small_store import small_store

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "store.md").read_text(encoding="utf-8")


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli) -> None:
    (tmp_path / "results").mkdir()
    small_store(tmp_path).root.rename(tmp_path / "results" / "two")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ sharpscope (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 8
    for command in commands:
        code, _, errors = cli(*shlex.split(command))
        assert code == 0, f"{command}: {errors}"
    for name in re.findall(r"^  (\S+)", PAGE.split("```")[1], re.MULTILINE):
        if "<" not in name and name not in ("journal.jsonl", "failures/"):
            assert (tmp_path / "results" / "two" / name).exists(), name


def test_the_page_states_the_silence_that_counts() -> None:
    assert f"after {SILENCE:.0f} seconds without a heartbeat" in PAGE
