"""The quickstart page is true: its files are written as they stand, its commands run in the order of the page."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("$ ", "").splitlines()
]
FEWER = {  # what a test leaves out of a command, for the sake of its time
    "mynet:build": ["--samples", "30", "--without", "average_direction,density,trace,worst_case"],
    "hf:mylm": ["--samples", "2", "--without", "surface,average_direction,density,trace,frobenius_norm"],
    "mytable:build": ["--samples", "30", "--without", "average_direction,density"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_its_commands_run(
    cli: Callable[..., tuple[int, str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "mynet", raising=False)  # another test's module of that name
    makefile = (ROOT / "Makefile").read_text()
    pages = []
    for program, *arguments in COMMANDS:
        match program:
            case "make":
                assert f"\n{arguments[0]}:" in makefile
            case "source":
                assert arguments == [".venv/bin/activate"]
            case "python":
                if arguments == ["makelm.py"]:
                    pytest.importorskip("transformers")
                runpy.run_path(arguments[0], run_name="__main__")
            case _:
                assert program == "sharpscope"
                if "--without" in FEWER[arguments[1]] and "--without" in arguments:
                    at = arguments.index("--without")
                    del arguments[at : at + 2]
                code, out, err = cli(*arguments, *FEWER[arguments[1]])
                assert code == 0, err
                assert out.startswith("λ_max = ")
                page = folder / arguments[arguments.index("-o") + 1]
                pages.append(page.read_text(encoding="utf-8"))
    assert len(pages) == 3
    for text in pages:
        assert "Curvature by layer" in text


def test_every_file_it_shows_is_used() -> None:
    assert set(FILES) == {"mynet.py", "makelm.py", "mytable.py"}
    assert {a[0] for p, *a in COMMANDS if p == "python"} == set(FILES)
