"""Plain tables and numbers for the terminal."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from sharpscope.cli.streams import say, visible
from sharpscope.serialization import json_ready


def print_json(document: Any) -> None:
    """Print a document as JSON; NaN becomes null, infinity a string, a symbol that the output lacks an escape."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    print(json.dumps(json_ready(document), indent=2, ensure_ascii=encoding != "utf8", allow_nan=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> None:
    """Print rows under headers, columns aligned; the last column is cut to the terminal's width.

    ``right`` lists the columns to align right.
    """
    cells = [[visible(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    widths = [
        max(len(h), *(len(row[i]) for row in cells)) if cells else len(h) for i, h in enumerate(headers)
    ]
    limit = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 10_000
    for line in [list(headers), *cells]:
        text = "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        say(text if len(text) <= limit else text[: max(limit - 1, 1)] + "…")


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
