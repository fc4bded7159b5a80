"""The table of correlations: who is counted, resampled and left out."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sharpscope.analysis import correlations, partial_correlations
from sharpscope.analysis.correlations import COLUMNS
from sharpscope.errors import InputError


def tables(configurations=8, seeds=3):
    draw = np.random.default_rng(2)
    n = configurations * seeds
    runs = pd.DataFrame(
        {
            "run_id": [f"r{i:02}" for i in range(n)],
            "configuration": np.repeat([f"c{i}" for i in range(configurations)], seeds),
            "status": "finished",
            "seed": np.tile(np.arange(seeds), configurations),
            "train_loss": draw.normal(size=n),
            "test_loss": draw.normal(size=n),
        }
    )
    runs["gap"] = runs["test_loss"] - runs["train_loss"]
    long = pd.DataFrame({"run_id": runs["run_id"], "measure": "trace", "value": draw.normal(size=n)})
    return runs, long


def one(table):
    assert len(table) == 1
    return table.iloc[0]


def test_one_row_per_measure_target_and_method_in_order():
    runs, long = tables()
    found = correlations(runs, long, resamples=50)
    assert tuple(found.columns) == COLUMNS
    assert found["target"].tolist() == ["test_loss"] * 3 + ["gap"] * 3
    assert found["method"].tolist() == ["kendall", "spearman", "pearson"] * 2
    assert (found["low"] < found["value"]).all()
    assert (found["value"] < found["high"]).all()
    assert (found["clusters"] == 8).all()


def test_p_value_is_scipys_of_the_rows_and_clustered_that_of_the_means():
    runs, long = tables()
    found = one(correlations(runs, long, ["gap"], ["kendall"], resamples=50))
    assert found["p_value"] == pytest.approx(stats.kendalltau(long["value"], runs["gap"]).pvalue)
    means = [values.groupby(runs["configuration"]).mean() for values in (long["value"], runs["gap"])]
    assert found["p_clustered"] == pytest.approx(stats.kendalltau(*means).pvalue)


def test_diverged_and_missing_rows_are_left_out_and_counted():
    runs, long = tables()
    expected = one(correlations(runs[4:], long[4:], ["gap"], ["kendall"], resamples=50))
    runs.loc[0, "status"] = "diverged"  # with finite values all the same
    long.loc[1, "value"] = np.nan
    runs.loc[2, "gap"] = np.inf
    long = long.drop(3)
    found = one(correlations(runs, long, ["gap"], ["kendall"], resamples=50))
    assert found["excluded"] == 4
    assert found["n"] == len(runs) - 4
    assert found["value"] == expected["value"]


def test_row_order_of_measures_does_not_matter():
    runs, long = tables()
    shuffled = long.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        correlations(runs, long, resamples=50), correlations(runs, shuffled, resamples=50)
    )


def test_a_single_configuration_resamples_its_runs():
    runs, long = tables(configurations=1, seeds=12)
    found = one(correlations(runs, long, ["gap"], ["kendall"], resamples=50))
    assert found["clusters"] == 12
    assert found["p_clustered"] == found["p_value"]


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (lambda runs, long: long.__setitem__("value", 1.0), "constant measure"),
        (lambda runs, long: runs.__setitem__("gap", 1.0), "constant target"),
        (lambda runs, long: long.__setitem__("value", np.nan), "only 0 finite pairs"),
        (lambda runs, long: runs.__setitem__("status", "diverged"), "only 0 finite pairs"),
    ],
)
def test_what_cannot_be_correlated_says_why(spoil, note):
    runs, long = tables()
    spoil(runs, long)
    found = one(correlations(runs, long, ["gap"], ["spearman"], resamples=50))
    assert note in found["note"]
    assert np.isnan(found["value"])
    assert np.isnan(found["low"])


def test_two_configurations_give_a_value_and_no_interval():
    runs, long = tables(configurations=2)
    found = one(correlations(runs, long, ["gap"], ["kendall"], resamples=50))
    assert np.isfinite(found["value"])
    assert np.isnan(found["low"])
    assert "too few" in found["note"]


def test_training_loss_explains_a_correlation_away():
    runs, long = tables(configurations=40, seeds=2)
    draw = np.random.default_rng(0)
    long["value"] = runs["train_loss"] + 0.4 * draw.normal(size=len(runs))
    runs["test_loss"] = runs["train_loss"] + 0.4 * draw.normal(size=len(runs))
    plain = one(correlations(runs, long, ["test_loss"], ["spearman"]))
    given = one(partial_correlations(runs, long, ["test_loss"], ["spearman"]))
    assert plain["low"] > 0.5
    assert given["low"] < 0 < given["high"]
    assert given["given"] == "train_loss"


def test_the_same_call_gives_the_same_bits():
    runs, long = tables()
    first, second = (correlations(runs, long, resamples=200) for _ in range(2))
    assert first.to_csv() == second.to_csv()


def test_input_is_checked():
    runs, long = tables()
    with pytest.raises(InputError, match="got 'tau'"):
        correlations(runs, long, methods=["tau"])
    with pytest.raises(InputError, match="'test_acc'"):
        correlations(runs, long, ["test_acc"])
    with pytest.raises(InputError, match="several of 'trace'"):
        correlations(runs, pd.concat([long, long]))


def test_no_measures_give_an_empty_table():
    runs, long = tables()
    assert tuple(correlations(runs, long[:0]).columns) == COLUMNS
    assert not len(correlations(runs, pd.DataFrame()))
