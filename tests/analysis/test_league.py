"""The league of measures: who leads, by how much, and whether the control leaves it standing."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sharpscope.analysis import correlations, partial_correlations
from sharpscope.analysis.league import STATISTICS, league
from sharpscope.errors import InputError

AXES = ["optimizer", "lr", "batch_size"]


def pool(seeds=3):
    draw = np.random.default_rng(4)
    cells = list(product(["sgd", "sam"], [0.01, 0.1, 1.0], [16, 64, 256, 1024], range(seeds)))
    runs = pd.DataFrame(cells, columns=[*AXES, "seed"])
    runs["configuration"] = runs[AXES].astype(str).agg("-".join, axis=1)
    runs["run_id"] = [f"r{i:03}" for i in range(len(runs))]
    runs["status"] = "finished"
    n = len(runs)
    runs["train_loss"] = draw.normal(size=n) + np.log10(runs["lr"])
    runs["gap"] = draw.normal(size=n) + runs["train_loss"]
    return runs.assign(
        good=runs["gap"] + 0.3 * draw.normal(size=n),
        borrowed=runs["train_loss"] + 0.3 * draw.normal(size=n),
        idle=draw.normal(size=n),
        wrong=-runs["gap"] + 0.3 * draw.normal(size=n),
    )


MEASURES = ["idle", "wrong", "borrowed", "good"]


@pytest.fixture(scope="module")
def table():
    return league(pool(), MEASURES, AXES, resamples=500).set_index("measure")


def test_the_order(table):
    assert table.index.tolist() == ["good", "borrowed", "idle", "wrong"]
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table.loc["good", ["rank_low", "rank_high"]].tolist() == [1, 1]


def test_what_the_control_explains_falls_to_nothing(table):
    assert table.loc["borrowed", "tau_low"] > 0
    assert table.loc["borrowed", "partial_rho_low"] < 0 < table.loc["borrowed", "partial_rho_high"]
    assert table.loc["good", "partial_rho_low"] > 0.5
    assert table.loc["idle", "granulated_low"] < 0 < table.loc["idle", "granulated_high"]


def test_values_and_intervals_are_those_of_the_correlations(table):
    runs = pool()
    assert table.loc["good", "tau"] == pytest.approx(stats.kendalltau(runs["good"], runs["gap"])[0])
    long = runs[["run_id", "good"]].rename(columns={"good": "value"}).assign(measure="good")
    plain = correlations(runs, long, ["gap"], ["kendall"], resamples=500).iloc[0]
    given = partial_correlations(runs, long, ["gap"], ["kendall", "spearman"], resamples=500)["value"]
    assert table.loc["good", ["tau_low", "tau_high"]].tolist() == pytest.approx([plain["low"], plain["high"]])
    assert table.loc["good", ["partial_tau", "partial_rho"]].tolist() == pytest.approx(given.tolist())
    assert (table["n"] == 72).all()
    assert (table["clusters"] == 24).all()


def test_granulated_is_the_mean_along_the_axes(table):
    along = table.loc["good", [f"along_{axis}" for axis in AXES]]
    assert table.loc["good", "granulated"] == pytest.approx(along.mean())


def test_an_accuracy_turns_the_order(table):
    runs = pool().assign(test_accuracy=lambda t: -t["gap"])
    found = league(runs, MEASURES, AXES, "test_accuracy", resamples=50)
    assert found["measure"].tolist() == ["good", "borrowed", "idle", "wrong"]
    assert found["tau"][0] < 0


def test_diverged_and_missing_runs_are_left_out_measure_by_measure():
    runs = pool()
    runs.loc[0, "status"] = "diverged"
    runs.loc[1:6, "good"] = np.nan
    found = league(runs, MEASURES, AXES, resamples=50).set_index("measure")
    assert found.loc["good", "n"] == 65
    assert found.loc["idle", "n"] == 71
    assert found.loc["good", "clusters"] == 22


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda t: t.assign(good=1.0), "constant measure"),
        (lambda t: t.assign(gap=1.0), "constant target"),
        (lambda t: t.assign(good=np.nan), "0 runs with a finite value are too few"),
        (lambda t: t.assign(status="diverged"), "0 runs"),
        (lambda t: t.assign(train_loss=1.0), "train_loss is the same in all runs"),
        (lambda t: t.assign(seed=range(len(t))), "no two runs differ in one setting alone"),
    ],
)
def test_what_is_missing_is_noted(change, note):
    found = league(change(pool()), ["good"], AXES, resamples=50)
    assert note in found["note"][0]
    assert set(STATISTICS) < set(found.columns)


def test_the_order_of_runs_does_not_matter_and_the_bits_are_the_same():
    runs = pool()
    first = league(runs, MEASURES, AXES, resamples=100)
    second = league(runs.sample(frac=1, random_state=0), MEASURES, AXES, resamples=100)
    assert first.to_csv() == second.to_csv()


def test_one_configuration_resamples_its_runs():
    runs = pool()[lambda t: t["configuration"] == "sgd-0.01-16"]
    runs = pd.concat([runs.assign(run_id=runs["run_id"] + str(i), good=runs["good"] + i) for i in range(4)])
    runs["gap"] = np.arange(len(runs))
    assert league(runs, ["good"], [], resamples=50)["clusters"][0] == 12


def test_no_measures_give_an_empty_table_and_missing_columns_an_error():
    assert not len(league(pool(), [], AXES, resamples=10))
    with pytest.raises(InputError, match="'trace'"):
        league(pool(), ["trace"], AXES)
    with pytest.raises(InputError, match="'test_loss'"):
        league(pool(), ["good"], AXES, "test_loss")


def test_the_interval_covers_nothing_where_there_is_nothing():
    runs, draw, covered = pool(seeds=2), np.random.default_rng(9), 0
    for _ in range(40):
        own = draw.normal(size=(2, 24))[:, pd.factorize(runs["configuration"])[0]]
        runs["idle"], runs["gap"] = own + 0.3 * draw.normal(size=(2, len(runs)))
        found = league(runs, ["idle"], AXES, resamples=300).iloc[0]
        covered += sum(found[f"{name}_low"] <= 0 <= found[f"{name}_high"] for name in STATISTICS)
    assert covered / 160 > 0.9
