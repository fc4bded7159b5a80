"""Tables and numbers for the terminal."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from sharpscope.cli.streams import say, visible
from sharpscope.serialization import json_ready

GAP = 2
"""Spaces between two columns of a table."""

UNBROKEN = 24
"""A cell of at most so many characters is kept on one line: a number with its interval is read as one."""


def print_json(document: Any) -> None:
    """Print a document as JSON; NaN becomes null, infinity a string, a symbol that the output lacks an escape."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    print(json.dumps(json_ready(document), indent=2, ensure_ascii=encoding != "utf8", allow_nan=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> None:
    """Print rows under headers, columns aligned; no value is ever cut.

    Where the terminal is too narrow for a line of all columns, cells wrap between words. Where not even the longest
    words fit side by side, each row becomes a block of lines ``header  value``. Into a file or a pipe a row is one
    line, unless COLUMNS asks for a width. ``right`` lists the columns to align right.
    """
    cells = [[visible(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    columns = [[header, *(row[i] for row in cells)] for i, header in enumerate(headers)]
    widths = [max(map(len, column)) for column in columns]
    available = _available()
    if available is not None:
        least = [
            max(
                max(map(len, part.split()), default=0) if len(part) > UNBROKEN else len(part)
                for part in column
            )
            for column in columns
        ]
        if sum(least) + GAP * (len(least) - 1) > available:
            _print_blocks(headers, cells, available)
            return
        while sum(widths) + GAP * (len(widths) - 1) > available:
            widest = max((w, i) for i, w in enumerate(widths) if w > least[i])[1]
            widths[widest] -= 1
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    wrapped = any(len(cell) > width for row in cells for cell, width in zip(row, widths, strict=True))
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, leading=int(wrapped))
    for i, (header, width) in enumerate(zip(headers, widths, strict=True)):
        table.add_column(
            Text(header), justify="right" if i in right else "left", width=width, overflow="fold"
        )
    for row in cells:
        table.add_row(*map(Text, row))
    drawn = io.StringIO()
    console = Console(
        file=drawn, width=sum(widths) + GAP * len(widths), color_system=None, legacy_windows=False
    )
    console.print(table)
    for line in drawn.getvalue().splitlines():
        say(line.rstrip())


def _available() -> int | None:
    """Return the columns that a line may take: COLUMNS, or those of the terminal; None where nothing limits it."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _print_blocks(headers: Sequence[str], rows: Sequence[Sequence[str]], available: int) -> None:
    """Print each row as a block: its first cell, and under it every other one behind its header."""
    indent = max(map(len, headers[1:]), default=0) + 4
    for row in rows:
        say(f"{headers[0]} {row[0]}".strip())
        for header, cell in zip(headers[1:], row[1:], strict=True):
            text = textwrap.fill(
                cell,
                max(available, indent + 20),
                initial_indent=f"  {header:<{indent - 2}}",
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            say(text or f"  {header}")


def number(value: float | None, digits: int = 4) -> str:
    """Return a number in a few significant digits; an en dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """Return seconds as a person says them: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
