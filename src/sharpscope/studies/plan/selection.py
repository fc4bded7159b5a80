"""Select runs of a study by the values in the columns of its table."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sharpscope.errors import InputError
from sharpscope.serialization import canonical_json


def columns(settings: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's row as selections see it: its own columns of the table of runs, and what the grid varies.

    ``run`` is the run's configuration as a table.
    """
    row = {
        "data": run["data"]["name"],
        "model": run["model"]["name"],
        "optimizer": run["optimizer"]["name"],
        "lr": run["optimizer"]["lr"],
        "batch_size": run["batch_size"],
        "seed": run["seed"],
    }
    return row | {name: value for name, value in settings.items() if name not in row}


def matches(row: Mapping[str, Any], select: Mapping[str, Any]) -> bool:
    """Return whether a row has, in every column named, the value or one of the values wanted.

    >>> matches({"lr": 0.1, "batch_size": 100}, {"lr": [0.1, 0.2]}), matches({"lr": 0.1}, {"lr": 0.2})
    (True, False)
    """
    return all(
        any(same(row.get(name), value) for value in (wanted if isinstance(wanted, list) else [wanted]))
        for name, wanted in select.items()
    )


def same(a: Any, b: Any) -> bool:
    """Return whether two settings are equal, 1 and 1.0 among them."""
    return canonical_json([_plain(a)]) == canonical_json([_plain(b)])


def check(select: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise `InputError` where a selection names no column of the runs, or a value that none of them has."""
    for name, wanted in select.items():
        known = list(dict.fromkeys(column for row in rows for column in row))
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"perhaps {close[0]} is meant" if close else f"the columns are {', '.join(known)}"
            raise InputError(f"'{name}' is no column of the runs; {remedy}")
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not any(same(row.get(name), value) for row in rows):
                has = list(dict.fromkeys(json.dumps(row.get(name)) for row in rows))
                raise InputError(
                    f"no run has '{name}' = {value!r}; its values are {', '.join(has[:12])}: choose among these"
                )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
