"""Figures and tables as files: whole, readable, the same bytes again."""

import io
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from report.synthetic_study import AXES, INFO, study
from sharpscope.errors import InputError
from sharpscope.report import save_figures, save_tables
from sharpscope.report.export import parquet_bytes


def test_figures_in_both_formats_are_the_same_again(tmp_path):
    runs, measures, history = study(rates=(0.1, 0.3), seeds=2, epochs=3)
    measures = measures[measures["measure"].isin(["lambda_max", "worst_case"])]
    kinds = {"measure_info": INFO, "resamples": 50}
    first = save_figures(runs, measures, history, AXES, tmp_path / "a", **kinds)
    again = save_figures(runs, measures, history, AXES, tmp_path / "b", formats=["svg"], **kinds)
    assert len(first) == 2 * len(again) == 2 * (1 + 3 + 2 * 3 + 2 * 2)
    for path in again:
        content = path.read_bytes()
        assert content == (tmp_path / "a" / path.name).read_bytes()
        ET.fromstring(content)
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in first if p.suffix == ".png")
    assert "trend-lambda-max-by-lr.svg" in {path.name for path in again}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {path.name for path in first}


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match="got 'gif'"):
        save_figures(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), [], tmp_path, formats=["gif"])
    with pytest.raises(InputError, match="got 'xlsx'"):
        save_tables({}, tmp_path, formats=["xlsx"])


def test_tables_read_back_exactly_and_are_the_same_again(tables, tmp_path):
    runs, measures, _ = tables
    mixed = runs.assign(batch_size=runs["batch_size"].astype(object).where(runs["seed"] > 0, "full"))
    named = {"runs": mixed, "measures": measures}
    first = save_tables(named, tmp_path / "a")
    assert [path.name for path in first] == ["runs.csv", "runs.parquet", "measures.csv", "measures.parquet"]
    for path in save_tables(named, tmp_path / "b"):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    for read, name in ((pd.read_csv, "measures.csv"), (pd.read_parquet, "measures.parquet")):
        back = read(tmp_path / "a" / name)
        assert back["value"].equals(measures["value"])
        assert back["converged"].equals(measures["converged"])
    assert set(pd.read_parquet(tmp_path / "a" / "runs.parquet")["batch_size"]) == {"16", "128", "full"}


def test_a_setting_that_only_some_runs_have_is_missing_from_the_others(tmp_path):
    """Text beside NaN, as where SAM's base optimizer is an option and SGD has none."""
    table = pd.DataFrame({"base": [float("nan"), "sgd"], "share": [0.5, float("nan")]})
    back = pd.read_parquet(io.BytesIO(parquet_bytes(table)))
    assert back["base"].isna().tolist() == [True, False]
    assert back["base"][1] == "sgd"
    assert back["share"].dtype == "float64"
