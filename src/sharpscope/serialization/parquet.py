"""Reading Parquet files that may come from someone else: a small file can ask for more memory than there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharpscope.errors import InputError

_HARMLESS = 2**28  # bytes; a table that cannot become larger is read at once
_PIECE = 2**26  # bytes to which the rows of one piece of a larger table may grow


def read_parquet(source: Path | bytes) -> Any:
    """Return a Parquet file as a ``pyarrow.Table``.

    Run lengths and dictionaries let a few bytes stand for gigabytes. The size in memory is therefore bounded before
    anything is decoded, by the number of rows times the most that one row can take; where that bound is large, the
    table is decoded in pieces whose sizes are counted.

    Raises `InputError` for a table that takes more than half of the free memory, and pyarrow's own `ValueError` or
    `OSError` for what is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(source) if isinstance(source, bytes) else source)
    rows, row = file.metadata.num_rows, _largest_row(file)
    if rows * row <= _HARMLESS:
        return file.read(use_threads=False)
    limit = _free_memory() // 2
    if rows * 8 * file.metadata.num_columns > limit:
        raise _too_large(rows, file.metadata.num_columns, rows * 8 * file.metadata.num_columns, limit)
    pieces, size = [], 0
    for piece in file.iter_batches(batch_size=max(1, _PIECE // row), use_threads=False):
        size += piece.nbytes
        if size > limit:
            raise _too_large(rows, file.metadata.num_columns, size, limit)
        pieces.append(piece)
    return pa.Table.from_batches(pieces, schema=file.schema_arrow)


def _largest_row(file: Any) -> int:
    """Return the most bytes that one row can take: no value is longer than its column's pages and dictionary."""
    metadata = file.metadata
    sizes = [8] * metadata.num_columns
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            if chunk.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
                sizes[column] = max(sizes[column], chunk.total_uncompressed_size)
    return sum(sizes)


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _too_large(rows: int, columns: int, size: int, limit: int) -> InputError:
    return InputError(
        f"the table has {rows} rows of {columns} columns, which take at least {size / 1e9:.1f} GB of memory, and at "
        f"most {limit / 1e9:.1f} GB are to be used; give a smaller one"
    )
