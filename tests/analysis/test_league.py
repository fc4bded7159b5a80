"""The league of measures: who leads, by how much, and whether the control leaves it standing."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

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
    """By how far τ stays from zero, on either side: the measure that is always wrong predicts as well."""
    assert set(table.index[:2]) == {"good", "wrong"}
    assert table.index[2:].tolist() == ["borrowed", "idle"]
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table.loc["good", "tau_low"] > 0 > table.loc["wrong", "tau_high"]
    assert table.loc["idle", "tau_low"] < 0 < table.loc["idle", "tau_high"]
    assert table.loc["idle", ["rank_low", "rank_high"]].tolist() == [4, 4]
    assert sorted(table["rank_low"][:2]) == [1, 1]


def test_a_measure_that_may_not_predict_does_not_lead_by_its_size():
    runs = pool(seeds=1).head(12).reset_index(drop=True)
    runs["gap"] = np.arange(12.0)
    runs["steady"] = runs["gap"].to_numpy().reshape(6, 2)[:, ::-1].ravel()  # neighbours swapped
    found = league(runs, ["idle", "steady"], AXES, resamples=50)
    assert found["measure"].tolist() == ["steady", "idle"]


def test_what_the_control_explains_falls_to_nothing(table):
    assert table.loc["borrowed", "tau_low"] > 0
    assert table.loc["borrowed", "partial_rho_low"] < 0 < table.loc["borrowed", "partial_rho_high"]
    assert table.loc["good", "partial_rho_low"] > 0.5
    assert table.loc["idle", "granulated_low"] < 0 < table.loc["idle", "granulated_high"]


def test_values_and_intervals(table):
    """Among the runs of a seed; the intervals by leaving out one configuration at a time."""
    runs = pool()

    def of_seeds(part, name="borrowed"):
        return np.mean([stats.kendalltau(own[name], own["gap"])[0] for _, own in part.groupby("seed")])

    assert table.loc["borrowed", "tau"] == pytest.approx(of_seeds(runs))
    left_out = np.array([of_seeds(runs[runs["configuration"] != c]) for c in runs["configuration"].unique()])
    error = np.sqrt(23 / 24 * ((left_out - left_out.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, 22) * error
    assert table.loc["borrowed", "tau_high"] - table.loc["borrowed", "tau_low"] == pytest.approx(
        2 * reach, rel=1e-3
    )
    ranks = runs.groupby("seed")[["good", "gap", "train_loss"]].rank()
    centred = ranks - ranks.groupby(runs["seed"]).transform("mean")
    loss = centred["train_loss"]
    left = [centred[n] - np.polyval(np.polyfit(loss, centred[n], 1), loss) for n in ("good", "gap")]
    assert table.loc["good", "partial_rho"] == pytest.approx(np.corrcoef(*left)[0, 1])
    assert (table["n"] == 72).all()
    assert (table["clusters"] == 24).all()


def test_granulated_is_the_mean_along_the_axes(table):
    along = table.loc["good", [f"along_{axis}" for axis in AXES]]
    assert table.loc["good", "granulated"] == pytest.approx(along.mean())


def test_an_accuracy_turns_the_signs():
    runs = pool().assign(test_accuracy=lambda t: -t["gap"])
    found = league(runs, MEASURES, AXES, "test_accuracy", resamples=50)
    found = found.set_index("measure")
    plain = league(runs, MEASURES, AXES, resamples=50).set_index("measure")
    assert found.index.tolist() == plain.index.tolist()
    assert found.loc["good", "tau"] == -plain.loc["good", "tau"]
    for name in ("sign_error", "worst_sign_error", "information"):
        assert found.loc["good", name] == pytest.approx(plain.loc["good", name])


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
