"""Tables as CSV and Parquet files, the same bytes for the same table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from sharpscope.errors import InputError
from sharpscope.serialization import write_whole

FORMATS = ("csv", "parquet")
"""The formats a table can be saved in."""


def save_tables(
    tables: Mapping[str, pd.DataFrame], folder: Path | str, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write every table as ``folder/<name>.<format>`` and return the paths.

    The same tables give the same bytes: no index, no time, no library metadata. Each file appears whole or
    not at all. Raises `InputError` for an unknown format.
    """
    for form in formats:
        if form not in FORMATS:
            raise InputError(f"a table is saved as {' or '.join(FORMATS)}, got {form!r}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in tables.items():
        for form in formats:
            content = csv_text(table).encode() if form == "csv" else parquet_bytes(table)
            paths.append(write_whole(folder / f"{name}.{form}", content))
    return paths


def csv_text(table: pd.DataFrame) -> str:
    r"""Return a table as CSV: floats by ``repr`` (they read back exactly), a missing value as nothing.

    >>> csv_text(pd.DataFrame({"a": [0.1, float("nan")], "b": ["x,y", None], "c": [True, False]}))
    'a,b,c\n0.1,"x,y",true\n,,false\n'
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_no_formula(str(column)) for column in table.columns])
    columns = [table[column].tolist() for column in table.columns]
    writer.writerows([_no_formula(_cell(value)) for value in row] for row in zip(*columns, strict=True))
    return out.getvalue()


def parquet_bytes(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet; a column that mixes kinds (batch sizes 32 and "full") becomes text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = {str(column): _one_kind(table[column].tolist()) for column in table.columns}
    sink = io.BytesIO()
    pq.write_table(pa.table(plain), sink, compression="zstd")
    return sink.getvalue()


def _one_kind(values: list[Any]) -> list[Any]:
    values = [None if value is None or value is pd.NA else value for value in values]
    kinds = {type(value) for value in values if value is not None and value == value}
    if not kinds <= {int, float}:  # beside text, a missing value must not be a number's NaN
        present = [None if value is None or value != value else value for value in values]
        return [None if v is None else _cell(v) for v in present] if len(kinds) > 1 else present
    return values


def _cell(value: Any) -> str:
    if value is None or value is pd.NA:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if isnan(value) else repr(value)
    return str(value)


def _no_formula(text: str) -> str:
    if text[:1] not in ("=", "+", "-", "@", "\t", "\r"):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
