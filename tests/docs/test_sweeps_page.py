"""The page on sweeps is true: a laptop's commands run here, and all others are what the command line takes.

Those for Slurm and Ray run in tests/sweep/executors, where the engines are there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from docs.sweeps_page import commands, of_ours, write_study
from sharpscope.cli.app import app
from sharpscope.cli.executor_options import ExecutorOptions

ROOT = Path(__file__).parents[2]


def run(words: list[str], folder: Path) -> str:
    shown = subprocess.run(
        [sys.executable, "-m", "sharpscope", *words], cwd=folder, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_a_laptop_s_commands_run(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = []
    for words in of_ours("A laptop"):
        code, out, err = cli(*words)
        assert code == 0, err
        shown.append(out)
    assert len(shown) == 4
    assert "4 runs, 4 measures: 8 done" in shown[0]
    assert (tmp_path / "results/rates/report/index.html").exists()
    assert (tmp_path / "tables/results.csv").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_s_commands_run(tmp_path: Path) -> None:
    write_study(tmp_path)
    for words in of_ours("A machine with GPUs"):
        run(words, tmp_path)


@pytest.mark.parametrize("section", ["A machine with GPUs", "Slurm", "Ray"])
def test_the_command_line_takes_the_others(section: str) -> None:
    given = of_ours(section)
    assert len(given) >= 2
    names = ExecutorOptions.__dataclass_fields__
    for words in given:
        command = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
        options = command.make_context("run", words[1:]).params
        chosen = {name: value for name, value in options.items() if name in names}
        ExecutorOptions(**{**chosen, "slurm": tuple(chosen["slurm"] or ())})


def test_what_is_not_ours_exists() -> None:
    assert f"\n{commands('Trying it without a cluster')[0][1]}:" in (ROOT / "Makefile").read_text()
    extras = [words[-1] for section in ("Slurm", "Ray") for words in commands(section) if words[0] == "pip"]
    assert extras == ["sharpscope[slurm]", "sharpscope[ray]"]
    script = (ROOT / "tests" / "engines" / "ray.sh").read_text()
    for words in commands("Ray"):
        if words[0] == "ray" and words[1] == "start":
            assert f"start {words[2].split('=')[0]}" in script
