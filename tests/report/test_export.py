"""Tables as files."""

from __future__ import annotations

import csv
import io

import pandas as pd

from sharpscope.report.export import csv_text, parquet_bytes


def test_text_that_a_spreadsheet_would_compute_is_quoted_and_numbers_are_not() -> None:
    given = ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "-0.5", "-inf", "a=b", "–1"]
    table = pd.DataFrame({"=name": given, "number": [-1.5] * len(given)})
    text = csv_text(table)
    cells = [row[0] for row in csv.reader(io.StringIO(text))]
    assert cells == ["'=name", *(f"'{cell}" for cell in given[:5]), *given[5:]]
    assert text.count(",-1.5\n") == len(given)
    assert pd.read_parquet(io.BytesIO(parquet_bytes(table)))["=name"].tolist() == given
