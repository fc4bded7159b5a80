"""Write docs/commands.md: every command with its help, as the application itself prints it.

python docs/commands.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.main

from sharpscope.cli.app import app

WIDTH = 100


def commands() -> dict[str, Any]:
    """Return the application's commands by name, in the order of its help."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def page() -> str:
    """Return the page's text."""
    lines = [
        "# Commands",
        "",
        "Written by `python docs/commands.py` from the commands' own help. Each ends with status 0 when it is done,",
        "1 when some runs failed or are damaged, 2 for bad input, 130 when it was interrupted.",
        "",
    ]
    root = typer.main.get_command(app).make_context("sharpscope", [], resilient_parsing=True)
    for name, command in commands().items():
        context = command.context_class(command, info_name=name, parent=root, terminal_width=WIDTH)
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        lines += [f"## sharpscope {name}", "", "```text", text.strip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
