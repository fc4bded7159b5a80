"""The rows a claim is about, and the numbers it takes from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.conditions import Bounds, Scalar, holds
from sharpscope.analysis.claims.expression import evaluate_expression
from sharpscope.analysis.claims.finding import NotEvaluable
from sharpscope.analysis.resampling import Floats, Integers
from sharpscope.analysis.tables import finished, unfinished
from sharpscope.errors import InputError

LARGEST, SMALLEST = 1e152, 1e-152
"""Columns are refused whose largest value is beyond these: the squares of such numbers, which every interval is made
of, overflow, or vanish so that noise would look like none."""


@dataclass(frozen=True)
class Selected:
    """Rows that finished and hold a finite number of everything asked for, of all that met the conditions."""

    rows: pd.DataFrame
    everything: pd.DataFrame
    columns: tuple[Floats, ...]


def select(
    table: pd.DataFrame,
    conditions: dict[str, list[Scalar] | Bounds],
    expressions: Sequence[str],
    what: str = "run",
) -> Selected:
    """Return the rows that meet the conditions and the expressions' values there.

    Raises `NotEvaluable` where a column is missing, no row is left, or the values are too large or small to square,
    saying which.
    """
    if not len(table):
        raise NotEvaluable(f"there is no {what} yet")
    try:
        # In an order of their own, so that sums come out the same to the last bit however the rows arrive.
        order = [name for name in ("run_id", "epoch") if name in table.columns]
        met = table[holds(table, conditions)].sort_values(order, kind="stable").reset_index(drop=True)
        if not len(met):
            raise NotEvaluable(f"no {what} has {described(conditions)}")
        rows = met[finished(met)].reset_index(drop=True) if "status" in met.columns else met
        if not len(rows):
            raise NotEvaluable(
                f"no {what} with {described(conditions)} finished: {', '.join(unfinished(met).values())}"
            )
        columns = [evaluate_expression(text, rows) for text in expressions]
    except InputError as error:
        raise NotEvaluable(f"{error} among the {what}s") from error
    keep = np.ones(len(rows), dtype=bool)
    for text, column in zip(expressions, columns, strict=True):
        keep &= np.isfinite(column)
        if not keep.any():
            raise NotEvaluable(f"no {what} has a finite value of {text}")
    for text, column in zip(expressions, columns, strict=True):
        size = float(np.abs(column[keep]).max())
        if size > LARGEST or 0 < size < SMALLEST:
            raise NotEvaluable(
                f"{text} reaches {size:.3g}, and numbers above {LARGEST:g} or below {SMALLEST:g} have no squares: "
                "give it in another unit"
            )
    kept = rows[keep].reset_index(drop=True)
    return Selected(kept, met, tuple(column[keep] for column in columns))


def described(conditions: dict[str, list[Scalar] | Bounds]) -> str:
    """Return conditions in words.

    >>> described({"lr": Bounds(0.1, float("inf")), "optimizer": ["sgd", "sam"]})
    'lr at least 0.1, optimizer = sgd or sam'
    """
    found = []
    for name, condition in conditions.items():
        if isinstance(condition, Bounds):
            ends = [f"at least {condition.low:g}"] if np.isfinite(condition.low) else []
            ends += [f"at most {condition.high:g}"] if np.isfinite(condition.high) else []
            found.append(f"{name} {' and '.join(ends)}")
        else:
            found.append(f"{name} = {' or '.join(map(str, condition))}")
    return ", ".join(found) or "any setting"


def format_row(keys: pd.Series[Any]) -> str:
    """Return the named values of one row in words.

    >>> format_row(pd.Series({"seed": 2.0, "optimizer": "sam"}))
    'seed = 2, optimizer = sam'
    """
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in keys.items()
    )


def labels(rows: pd.DataFrame, names: Sequence[str]) -> Integers:
    """Return a number per row, equal where all the named columns or expressions are, to nine digits.

    Numbers follow the order of first appearance. No names make all rows equal.

    >>> labels(pd.DataFrame({"batch": [100, 250], "lr": [0.005, 0.0125]}), ["batch/lr"]).tolist()
    [0, 0]
    """
    if not names:
        return np.zeros(len(rows), dtype=np.int64)
    keys = pd.DataFrame({name: key(rows, name) for name in names})
    numbers = keys.groupby(list(names), sort=False, dropna=False).ngroup()
    return np.asarray(numbers.to_numpy(), dtype=np.int64)


def key(rows: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return a column or expression as something to group or match by: numbers rounded to nine digits."""
    try:
        if name in rows.columns and not pd.api.types.is_numeric_dtype(rows[name]):
            return rows[name].astype(str)
        values = evaluate_expression(name, rows)
    except InputError as error:
        raise NotEvaluable(str(error)) from error
    with np.errstate(all="ignore"):
        scale = 10.0 ** (8 - np.floor(np.log10(np.abs(values))))
        rounded = np.where(np.isfinite(scale), np.round(values * scale) / scale, values)
    return pd.Series(rounded, index=rows.index)
