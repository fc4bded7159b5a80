"""Means over seeds and their intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sharpscope.analysis import summaries, summarise
from sharpscope.errors import InputError


def table():
    return pd.DataFrame(
        {
            "lr": [0.1, 0.1, 0.1, 0.1, 0.5],
            "batch": [8, 8, 64, 64, 8],
            "seed": [0, 1, 0, 1, 0],
            "trace": [1.0, 2.0, 3.0, 8.0, 4.0],
        }
    )


def test_student_interval_over_seeds():
    found = summarise(table(), ["lr", "batch"], "trace")
    low, high = stats.t.interval(0.95, 1, loc=1.5, scale=stats.sem([1.0, 2.0]))
    assert found.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx([1.5, low, high])
    assert found["seeds"].tolist() == [2, 2, 1]
    assert np.isnan(found.loc[2, "low"])


def test_mixed_settings_are_averaged_within_each_seed_first():
    found = summarise(table(), ["lr"], "trace")
    low, high = stats.t.interval(0.95, 1, loc=3.5, scale=stats.sem([2.0, 5.0]))
    assert found.loc[0, ["mean", "low", "high", "n"]].tolist() == pytest.approx([3.5, low, high, 4])


def test_logarithmic_mean_is_geometric_and_its_interval_positive():
    found = summarise(table(), ["lr", "batch"], "trace", scale="log")
    assert found.loc[1, "mean"] == pytest.approx(np.sqrt(24))
    assert (found["low"].dropna() > 0).all()


def test_logarithmic_mean_refuses_what_is_not_positive():
    with pytest.raises(InputError, match="positive values"):
        summarise(table().assign(trace=[0.0, 1, 2, 3, 4]), ["lr"], "trace", scale="log")


def test_missing_values_are_left_out():
    found = summarise(table().assign(trace=[np.nan, 2.0, np.inf, 8.0, 4.0]), ["lr"], "trace")
    assert found["mean"].tolist() == [5.0, 4.0]


def test_no_grouping_means_one_group():
    assert summarise(table(), [], "trace")["n"].tolist() == [5]


def test_summaries_of_every_quantity_without_diverged_runs():
    runs = (
        table()
        .drop(columns="trace")
        .assign(
            run_id=list("abcde"), status=["finished"] * 4 + ["diverged"], configuration="c", train_loss=1.0
        )
    )
    long = pd.DataFrame({"run_id": list("abcde"), "measure": "trace", "value": table()["trace"]})
    found = summaries(runs, long, ["lr", "batch"], quantities=["train_loss"])
    assert found["quantity"].tolist() == ["train_loss"] * 2 + ["trace"] * 2
    assert found["mean"].tolist() == [1.0, 1.0, 1.5, 5.5]
