"""A table of the user's own, CSV or Parquet: numeric columns as inputs, one column to predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sharpscope.data.dataset import Dataset, Split
from sharpscope.data.files import digest_of
from sharpscope.data.subsets import choose_rows, split_80_20
from sharpscope.errors import DataError, InputError, suggestion
from sharpscope.serialization.parquet import read_parquet

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from sharpscope.data.config import DataConfig


def load_table(config: DataConfig) -> Dataset:
    """Return a table, split 80/20 by ``subset_seed``, inputs (n, d) standardised by the training rows used.

    Targets are (n,) class numbers in the sorted order of the labels, or (n, 1) numbers. Raises DataError for a file
    that is missing, no table, or another than when the study was planned; a column that is missing, not numeric or
    has gaps; and a target with fewer than two classes.
    """
    import torch

    table = _read(config)
    assert config.target is not None
    names = input_columns(table, config.target, config.columns)
    inputs = numbers_in(table, names)  # (rows, d)
    targets, labels = _targets(table, config)
    train, test = split_80_20(f"table/{config.digest}", len(table), config.drawn_by)
    rows = choose_rows(config.name, config.sizes, config.drawn_by, len(train), len(test))
    used = train[rows.train]
    inputs = standardised(inputs, used)
    sentence = (
        f"{len(names)} inputs by their means and standard deviations over the {len(used)} training rows used"
    )
    if labels is None and config.targets == "standardised":
        targets, sentence = standardised(targets, used), f"{sentence}, the target likewise"

    def split(indices: NDArray[np.int64]) -> Split:
        chosen = targets[indices] if labels is not None else targets[indices].astype(np.float32)
        return Split(torch.from_numpy(inputs[indices].astype(np.float32)), torch.from_numpy(chosen))

    notes = [f"A table of {len(table)} rows; inputs {', '.join(names)}; target {config.target}."]
    ignored = [c for c in table.columns if c not in names and c != config.target]
    if ignored:
        notes.append(f"Columns left out: {', '.join(map(str, ignored))}.")
    if labels is not None:
        notes.append(f"Classes, numbered from 0: {', '.join(labels)}.")
    return Dataset(
        name="table",
        task="regression" if labels is None else "classification",
        n_outputs=1 if labels is None else len(labels),
        input_shape=(len(names),),
        train=split(used),
        validation=None if rows.validation is None else split(train[rows.validation]),
        test=split(test[rows.test]),
        whole_test=split(test) if config.final_test == "whole" else None,
        standardisation=sentence,
        notes=(*notes, *rows.notes),
    )


def _read(config: DataConfig) -> pd.DataFrame:
    import pandas as pd

    if config.path is None:
        raise DataError(
            f"the table {(config.digest or '')[:12]} must be given its path, and this configuration has none; "
            "run it from its study file"
        )
    path = Path(config.path)
    try:
        if digest_of(path) != config.digest:
            raise DataError(
                f"the table {path} has changed since this run was planned; start the command again"
            )
        table = read_parquet(path).to_pandas() if path.suffix == ".parquet" else pd.read_csv(path)
    except InputError as error:  # larger than the memory
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"the table {path} cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:  # the parsers' errors are ValueErrors
        first = str(error).strip().splitlines()[0]
        raise DataError(
            f"{path} must be a table in CSV or Parquet, and it is not ({first}); mend the file"
        ) from error
    if len(table) < 5:
        raise DataError(f"a table needs at least 5 rows, {path} has {len(table)}; add rows")
    return table.rename(columns=str)


def input_columns(table: pd.DataFrame, target: str, chosen: Sequence[str] | None) -> list[str]:
    """Return the chosen columns, or every column of numbers but the target; raise DataError where there are none."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    for name in (target, *(chosen or ())):
        if name not in table.columns:
            raise DataError(
                f"the table has the columns {', '.join(map(str, table.columns))}, and not {name!r}; "
                f"{suggestion(name, table.columns)}correct target or columns"
            )
    if chosen is not None:
        return list(chosen)
    names = [
        c for c in table.columns if c != target and (is_numeric_dtype(table[c]) or is_bool_dtype(table[c]))
    ]
    if not names:
        raise DataError(
            f"a table needs a numeric column beside its target, its columns are {', '.join(table.columns)}; add one"
        )
    return names


def numbers_in(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """Return columns of finite numbers (rows, d); raise DataError for a row that holds something else."""
    import pandas as pd

    columns = []
    for name in names:
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            cell = table[name].iloc[bad[0]]
            shown = repr(cell) if isinstance(cell, str) else str(cell)
            raise DataError(
                f"column {name!r} must hold a number in every row, row {bad[0] + 1} holds {shown}; mend the table or "
                "leave the column out"
            )
        columns.append(values)
    return np.stack(columns, axis=1)


def _targets(table: pd.DataFrame, config: DataConfig) -> tuple[NDArray[np.float64], list[str] | None]:
    """Return the targets, and the classes' labels where they are classes."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    column = table[config.target]
    numeric = is_numeric_dtype(column) and not is_bool_dtype(column)
    if config.task == "regression" or (config.task is None and numeric):
        assert config.target is not None
        return numbers_in(table, [config.target]), None
    if column.isna().any():
        row = int(np.flatnonzero(column.isna().to_numpy())[0]) + 1
        raise DataError(
            f"column {config.target!r} must hold a class in every row, row {row} is empty; mend the table"
        )
    labels = sorted(column.unique().tolist())
    if not 2 <= len(labels) <= len(table) // 2:
        raise DataError(
            f"a classification needs two classes or more and two rows of each on average, column {config.target!r} "
            f'has {len(labels)} in {len(table)} rows; choose another target, or task = "regression"'
        )
    number = {label: i for i, label in enumerate(labels)}
    return np.array([number[value] for value in column.tolist()], dtype=np.int64), [str(v) for v in labels]


def standardised(values: NDArray[np.float64], used: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return columns less their means over their standard deviations, both over the rows used; constants become 0."""
    mean, sd = values[used].mean(axis=0), values[used].std(axis=0)
    sd[sd == 0] = 1.0
    scaled: NDArray[np.float64] = (values - mean) / sd
    return scaled
