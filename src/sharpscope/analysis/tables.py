"""The two tables every statistic starts from, checked and joined."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from sharpscope.errors import InputError

RUN_COLUMNS = ("run_id", "configuration", "status")
"""What a table of runs must carry."""

MEASURE_COLUMNS = ("run_id", "measure", "value")
"""What a long table of measures must carry."""


def require_columns(table: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    """Raise `InputError` unless ``table`` has every one of ``columns``.

    >>> require_columns(pd.DataFrame({"run_id": []}), ["run_id", "status"], "runs")
    Traceback (most recent call last):
    ...
    sharpscope.errors.InputError: the table of runs needs the column 'status', and has: 'run_id'
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        has = ", ".join(repr(str(column)) for column in table.columns) or "none"
        plural = "column" if len(missing) == 1 else "columns"
        raise InputError(
            f"the table of {name} needs the {plural} {', '.join(map(repr, missing))}, and has: {has}"
        )


def measure_names(measures: pd.DataFrame) -> list[str]:
    """Return the measures' labels in their order of first appearance."""
    return [str(name) for name in measures["measure"].drop_duplicates()] if len(measures) else []


def wide_measures(runs: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Return one column of values per measure, one row per run, in the order of ``runs``.

    A run without a value holds NaN. Raises `InputError` where a run has two values of one measure, since
    no statistic could know which is meant.

    >>> runs = pd.DataFrame({"run_id": ["a", "b"]})
    >>> long = pd.DataFrame({"run_id": ["b"], "measure": ["trace"], "value": [2.0]})
    >>> wide_measures(runs, long)["trace"].tolist()
    [nan, 2.0]
    """
    require_columns(runs, ["run_id"], "runs")
    if not len(measures):
        return pd.DataFrame(index=runs.index)
    require_columns(measures, MEASURE_COLUMNS, "measures")
    twice = measures.duplicated(["run_id", "measure"])
    if twice.any():
        row = measures[twice].iloc[0]
        raise InputError(
            f"a run has one value per measure, but run {row['run_id']!r} has several of {row['measure']!r}: "
            "give each its own label"
        )
    table = pd.DataFrame(index=runs.index)
    for name in measure_names(measures):
        of_one = measures[measures["measure"].astype(str) == name].set_index("run_id")["value"]
        table[name] = pd.to_numeric(runs["run_id"].map(of_one)).astype(float)
    return table


def finished(runs: pd.DataFrame) -> pd.Series[bool]:
    """Return which runs came to their end, the only ones a statistic may use."""
    return runs["status"].astype(str) == "finished"


UNFINISHED = {"diverged": "diverged", "stopped": "stopped early by rule"}
"""How a run ended that did not finish, by its status."""


def unfinished(runs: pd.DataFrame) -> dict[str, str]:
    """Return how many runs did not finish and why, in words, by status; empty where all finished.

    >>> unfinished(pd.DataFrame({"status": ["finished", "diverged", "stopped", "stopped"]}))
    {'diverged': '1 of 4 runs diverged', 'stopped': '2 of 4 runs were stopped early by rule'}
    """
    status = runs["status"].astype(str)
    words = {}
    for one, how in UNFINISHED.items():
        if count := int((status == one).sum()):
            verb = "" if one == "diverged" else "was " if count == 1 else "were "
            words[one] = f"{count} of {len(runs)} run{'' if len(runs) == 1 else 's'} {verb}{how}"
    return words
