"""The README is true: its Python runs, its study makes a plan, its commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sharpscope.cli.app import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    return [
        shlex.split(line.removeprefix("$ "), comments=True)
        for block in blocks("console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str) -> None:
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "lambda_max" in shown.stdout


@pytest.mark.parametrize("study", blocks("toml"))
def test_the_study_makes_a_plan(study: str, tmp_path: Path) -> None:
    from sharpscope.studies import load_study, make_plan

    (tmp_path / "rates.toml").write_text(study)
    plan = make_plan(load_study(tmp_path / "rates.toml"))
    assert len(plan.runs) == 18


def test_commands_exist() -> None:
    make = (ROOT / "Makefile").read_text()
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    used = commands()
    assert ["make", "demo"] in used
    assert ["make", "test"] in used
    for words in used:
        if words[0] == "make":
            assert f"\n{words[1]}:" in make
        else:
            assert words[0] == "sharpscope"
            assert words[1] in known


def test_the_map_of_the_house_names_what_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "sharpscope"
    entries = {p.name for p in package.iterdir() if p.suffix == ".py"} | {
        f"{p.name}/" for p in package.iterdir() if (p / "__init__.py").exists()
    }
    drawn = set(re.findall(r"^  ([a-z_]+(?:\.py|/))", text, re.MULTILINE))
    assert entries - {"__main__.py"} == drawn


def test_the_walks_pass_through_files_that_are_there_a_dozen_at_most() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text[text.index("## Three walks") : text.index("## Adding things")]
    walks = section.split("\n\n**")[1:]
    assert len(walks) == 3
    for walk in walks:
        files = re.findall(r"`([a-z_/0-9]+\.(?:py|html\.j2))`", walk)
        assert 4 <= len(files) <= 12
        assert [f for f in files if not (ROOT / "src" / "sharpscope" / f).exists()] == []
