"""Read the files of a store's results; a damaged file is named with the command that repairs it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.errors import StoreError
from sharpscope.sweep import read_published

if TYPE_CHECKING:
    import pandas as pd


def read_parquet(path: Path) -> pd.DataFrame:
    """Return a table of the store; raise `StoreError` where its file is damaged."""
    table: pd.DataFrame = _arrow(path).to_pandas()
    return table


def stack_parquet(parts: Iterable[tuple[Mapping[str, str], Path]]) -> pd.DataFrame:
    """Return the rows of many tables of the store as one, each part's constants as its first columns.

    A column that a part lacks is missing there. Raises `StoreError` where a file is damaged.
    """
    import pandas as pd
    import pyarrow as pa

    tables = []
    for constants, path in parts:
        table = _arrow(path)
        for place, (name, value) in enumerate(constants.items()):
            table = table.add_column(place, name, pa.repeat(pa.scalar(value), table.num_rows))
        tables.append(table)
    if not tables:
        return pd.DataFrame()
    try:
        whole: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas(
            ignore_metadata=True
        )
    except pa.ArrowException:  # a column of text in one part and of numbers in another
        whole = pd.concat([table.to_pandas(ignore_metadata=True) for table in tables], ignore_index=True)
    return whole


def _arrow(path: Path) -> Any:
    """Return a Parquet file as an Arrow table."""
    from sharpscope.serialization import parquet

    content = read_published(path)
    try:
        return parquet.read_parquet(content)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise _damaged(path) from error


def read_json(path: Path, drop: str = "") -> dict[str, Any]:
    """Return a result's JSON without one of its keys; raise `StoreError` where the file is damaged."""
    text = read_published(path)
    try:
        content: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise _damaged(path) from error
    content.pop(drop, None)
    return content


def _damaged(path: Path) -> StoreError:
    """Return the error for a file that cannot be read though no manifest says that it has changed."""
    store, result = path.parents[2], path.parent.name
    return StoreError(
        f"{path} is damaged; run 'sharpscope retry {store} {result}', then the study again, which redoes just that"
    )
