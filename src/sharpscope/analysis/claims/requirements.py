"""What runs must have reached before a claim about them is judged: a claim about minima needs trained networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from sharpscope.analysis.caveats import UNTRAINED
from sharpscope.analysis.claims.expression import check_expression, columns_of, evaluate_expression
from sharpscope.analysis.resampling import Flags, Floats
from sharpscope.errors import InputError

TOLERATED = 0.1
"""The share of the compared runs that may miss a requirement: nine runs in ten must have trained."""

TESTS = ("min", "max", "below", "above", "is")

TRAINED: dict[str, dict[str, Any]] = {"train_loss": {"below": "constant_loss"}}
"""What is required where nothing is said: a loss clearly below that of one answer to every sample."""


def check_requires(given: Any) -> dict[str, dict[str, Any]]:
    """Return requirements as they were given, or raise `InputError`.

    Column → some of ``min``, ``max`` (included), ``below``, ``above``, each a number or an expression over columns,
    and ``is``, a text or several, such as a stopping reason. ``below`` a column asks for less than 95 % of it,
    since a network that learned nothing ends just beneath the loss of the best constant answer; ``above`` for more
    than its 1/0.95 fold. An empty table requires nothing.

    >>> check_requires({"train_accuracy": {"min": 0.95}, "train_loss": {"below": "constant_loss"}})
    {'train_accuracy': {'min': 0.95}, 'train_loss': {'below': 'constant_loss'}}
    """
    if not isinstance(given, Mapping):
        raise InputError(f"requires is a table, column → {{ min = ... }}; received {given!r}")
    for column, tests in given.items():
        if not isinstance(tests, Mapping) or not tests or set(tests) - set(TESTS):
            raise InputError(f"requires: {column} takes some of {', '.join(TESTS)}; received {tests!r}")
        for test, value in tests.items():
            if test == "is":
                if not (words := _words(value)) or not all(isinstance(word, str) for word in words):
                    raise InputError(f"requires: {column} is compared with text; received {value!r}")
            elif isinstance(value, str):
                check_expression(value)
            elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(
                    f"requires: {column} is compared with a number or a column; received {value!r}"
                )
    return {column: dict(tests) for column, tests in given.items()}


Requirements = Annotated[dict[str, Any], AfterValidator(check_requires)]
"""Column → what the runs compared must have reached in it, see `check_requires`."""


def missed(runs: pd.DataFrame, requires: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in one sentence which requirement more than a tenth of the runs miss; "" where none is.

    A run without a value misses the requirement. Raises `InputError` for a column that the runs have not.

    >>> runs = pd.DataFrame({"train_accuracy": [0.99, 0.98, 0.4]})
    >>> missed(runs, {"train_accuracy": {"min": 0.95}})
    '1 of 3 runs compared miss train_accuracy at least 0.95, which the claim requires of nine in ten.'
    """
    for column, test, wanted in _each(requires):
        short = int((~_reached(runs, column, test, wanted)).sum())
        if short > TOLERATED * len(runs):
            what = _said(column, test, wanted)
            return (
                f"{short} of {len(runs)} runs compared miss {what}, which the claim requires of nine in ten."
            )
    return ""


def precondition(runs: pd.DataFrame, requires: Mapping[str, Mapping[str, Any]] | None) -> str:
    """Return in one sentence what is required, and how many runs met all of it; None stands for `TRAINED`.

    A run that diverged has not met it.

    >>> runs = pd.DataFrame({"train_accuracy": [0.99, 0.98, 0.4]})
    >>> precondition(runs, {"train_accuracy": {"min": 0.95}})
    'Precondition: train_accuracy at least 0.95. Of 3 runs 2 met it (67 %).'
    """
    tests = _each(TRAINED if requires is None else requires)
    if not tests:
        return "Precondition: none, since what is claimed holds of untrained networks too."
    met = np.ones(len(runs), dtype=bool)
    try:
        for column, test, wanted in tests:
            met &= _reached(runs, column, test, wanted)
    except InputError as error:
        return f"Precondition: {' and '.join(_said(*one) for one in tests)}; not checked, since {error}."
    if "status" in runs.columns:
        met &= (runs["status"] == "finished").to_numpy()
    share = f"{100 * met.sum() / max(len(runs), 1):.0f} %"
    what = " and ".join(_said(*one) for one in tests)
    return f"Precondition: {what}. Of {len(runs)} runs {int(met.sum())} met it ({share})."


def _each(requires: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Any]]:
    return [(column, test, wanted) for column, tests in requires.items() for test, wanted in tests.items()]


def _said(column: str, test: str, wanted: Any) -> str:
    if test == "is":
        return f"{column} = {' or '.join(_words(wanted))}"
    clearly = "clearly " if isinstance(wanted, str) and test in ("below", "above") else ""
    words = {"min": "at least", "max": "at most"}.get(test, f"{clearly}{test}")
    return f"{column} {words} {wanted}"


def _reached(runs: pd.DataFrame, column: str, test: str, wanted: Any) -> Flags:
    if test == "is":
        if column not in runs.columns:
            raise InputError(f"there is no column {column!r}")
        return runs[column].astype(str).isin(_words(wanted)).to_numpy()
    bound = evaluate_expression(wanted, runs) if isinstance(wanted, str) else float(wanted)
    return _met(test, evaluate_expression(column, runs), bound, named=isinstance(wanted, str))


def _words(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def required_columns(requires: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the columns that requirements name, each once.

    >>> required_columns({"train_loss": {"below": "constant_loss"}})
    ['train_loss', 'constant_loss']
    """
    names = [name for column in requires for name in columns_of(column)]
    names += [
        name
        for tests in requires.values()
        for test, value in tests.items()
        if isinstance(value, str) and test != "is"
        for name in columns_of(value)
    ]
    return list(dict.fromkeys(names))


def _met(test: str, reached: Floats, bound: Floats | float, named: bool) -> Flags:
    """Return which values meet a test; a bound that is a column's is to be left clearly behind."""
    share = UNTRAINED if named else 1.0
    with np.errstate(invalid="ignore"):
        if test == "min":
            return np.asarray(reached >= bound - 1e-9 * np.abs(bound))
        if test == "max":
            return np.asarray(reached <= bound + 1e-9 * np.abs(bound))
        return np.asarray(reached < bound * share if test == "below" else reached > bound / share)
