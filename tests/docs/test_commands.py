"""What the documentation says of commands agrees with the application."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINES = [
    (page.relative_to(ROOT).as_posix(), line)
    for page in PAGES
    for line in re.findall(r"^\$ sharpscope (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]
spec = importlib.util.spec_from_file_location("commands", ROOT / "docs" / "commands.py")
assert spec is not None
assert spec.loader is not None
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == reference.page(), (
        "run python docs/commands.py"
    )


def test_every_command_line_of_the_pages_is_understood() -> None:
    assert len(LINES) > 50
    known = reference.commands()
    for page, line in LINES:
        name, *arguments = shlex.split(line, comments=True)
        command = known.get(name)
        assert command is not None, f"{page}: there is no command {name}"
        command.make_context(name, arguments)  # refuses an option that the command does not have


@pytest.mark.parametrize("command", sorted(reference.commands()))
def test_every_command_explains_itself(cli, command: str) -> None:
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert f"sharpscope {command}" in out
