from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharpscope.errors import InputError
from sharpscope.serialization import parquet
from sharpscope.serialization.parquet import read_parquet


def stored(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_free_memory", lambda: 2**22)
    monkeypatch.setattr(parquet, "_HARMLESS", 2**16)
    monkeypatch.setattr(parquet, "_PIECE", 2**18)


def test_a_table_comes_back_whether_read_at_once_or_in_pieces(monkeypatch, tmp_path):
    table = pa.table(
        {"x": list(range(5000)), "name": [f"run {i}" for i in range(5000)], "gap": [None, 0.5] * 2500}
    )
    assert read_parquet(stored(table)).equals(table)
    (tmp_path / "table.parquet").write_bytes(stored(table))
    monkeypatch.setattr(parquet, "_HARMLESS", 0)
    monkeypatch.setattr(parquet, "_PIECE", 2**17)
    assert read_parquet(tmp_path / "table.parquet").equals(table)


def test_many_equal_numbers_in_few_bytes_are_refused_before_they_are_decoded(little_memory):
    bomb = stored(pa.table({"loss": pa.array([0.5]).take(pa.array([0] * 300_000))}))
    assert len(bomb) < 3000
    with pytest.raises(InputError, match="has 300000 rows of 1 columns"):
        read_parquet(bomb)


def test_one_long_text_repeated_is_refused_while_it_is_decoded(little_memory):
    text = pa.array(["x" * 10_000]).take(pa.array([0] * 3000))
    bomb = stored(pa.table({"note": text}))
    assert len(bomb) < 30_000
    with pytest.raises(InputError, match="take at least"):
        read_parquet(bomb)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"x,y\n1,2\n", stored(pa.table({"x": [1]}))[:-9]]
)
def test_what_is_no_parquet_file_is_a_plain_error(content):
    with pytest.raises((ValueError, OSError)):
        read_parquet(content)
