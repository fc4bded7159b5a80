"""The page on sweeps: its study, and its commands by section."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")


def write_study(folder: Path) -> None:
    """Write the page's study where its commands look for it."""
    (study,) = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    (folder / "rates.toml").write_text(study, encoding="utf-8")


def commands(section: str) -> list[list[str]]:
    """Return the words of every command in a section, in order."""
    parts = re.split(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    bodies = dict(zip(parts[1::2], parts[2::2], strict=True))
    blocks = re.findall(r"```console\n(.*?)```", bodies[section], flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines]


def of_ours(section: str) -> list[list[str]]:
    """Return a section's ``sharpscope`` commands, without the first word."""
    return [words[1:] for words in commands(section) if words[0] == "sharpscope"]
