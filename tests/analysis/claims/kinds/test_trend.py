"""Trends: what few seeds and few settings can show, and what they cannot."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise

RATES = [0.001, 0.01, 0.1, 0.3, 1.0]


def falling(seeds=4, spread=0.1, **axes):
    table = grid(seeds, lr=RATES, **axes)
    return table.assign(sharpness=1 / table["lr"] * np.exp(noise(table, spread)))


def trend(table, direction="falling", **keys):
    return judge(table, kind="trend", x="lr", y="sharpness", direction=direction, **keys)


def test_a_clear_trend():
    verdict = trend(falling())
    assert verdict.verdict == "supported"
    assert verdict.effect.value == pytest.approx(1e-3, rel=0.1)  # from 0.001 to 1 it falls a thousandfold
    assert verdict.effect.low < verdict.effect.value < verdict.effect.high < 0.01
    assert verdict.p_value < 1e-6
    tau, page = verdict.others
    assert (tau.name, tau.value) == ("mean τ_b of sharpness on lr", pytest.approx(-1))
    assert page.value == pytest.approx(2 / 120**4)
    assert (verdict.rows, verdict.clusters, verdict.scale) == (20, 4, "smoke")


def test_the_opposite_claim_is_contradicted_with_the_same_p_value():
    claims = [trend(falling(spread=3.0), direction) for direction in ("falling", "rising")]
    assert claims[0].p_value == claims[1].p_value
    assert claims[0].effect == claims[1].effect
    assert trend(falling(), "rising").verdict == "contradicted"


@pytest.mark.parametrize(("direction", "mirrored"), [("falling", "rising"), ("rising", "falling")])
def test_a_table_upside_down_mirrors_everything(direction, mirrored):
    table = falling(seeds=7, spread=4.0)
    upside_down = table.assign(sharpness=1 / table["sharpness"])
    found, other = trend(table, direction), trend(upside_down, mirrored)
    assert found.verdict == other.verdict
    assert found.p_value == pytest.approx(other.p_value)
    ends = (other.effect.value, other.effect.high, other.effect.low)
    assert (found.effect.value, found.effect.low, found.effect.high) == pytest.approx(
        [1 / end for end in ends]
    )


def test_tau_is_the_mean_over_seeds_of_scipys():
    table = falling(spread=3.0)
    table.loc[table["lr"] == 0.01, "sharpness"] = 5.0  # ties across seeds must not count
    expected = [
        stats.kendalltau(of_seed["lr"], of_seed["sharpness"])[0] for _, of_seed in table.groupby("seed")
    ]
    assert trend(table).others[0].value == pytest.approx(np.mean(expected))


def test_accuracies_change_by_points_and_other_quantities_by_a_factor():
    table = falling().assign(test_accuracy=lambda t: 0.5 + 0.1 * np.log10(t["lr"]))
    found = judge(table, kind="trend", x="lr", y="test_accuracy", direction="rising")
    assert found.effect.value == pytest.approx(0.3)
    assert found.effect.name.startswith("change of test_accuracy")
    assert trend(table).effect.name.startswith("ratio of sharpness")
    own = trend(table, relative=False).effect
    assert own.name.startswith("change of sharpness")
    assert own.value < -100


def test_strata_are_compared_within():
    """Simpson's paradox: sharpness falls with the rate at every batch size, and rises over all."""
    table = grid(4, lr=RATES, batch=[1, 1000])
    table = table[(table["lr"] >= 0.1) == (table["batch"] == 1000) | (table["lr"] == 0.1)]
    table = table.assign(sharpness=np.where(table["batch"] == 1000, 1e6, 1.0) / table["lr"])
    assert trend(table).effect.value > 1
    assert trend(table, within=["batch"]).effect.value == pytest.approx(1e-3)


def test_one_seed_has_a_value_and_no_verdict():
    verdict = trend(falling(seeds=1))
    assert verdict.verdict == "inconclusive"
    assert np.isnan(verdict.effect.low)
    assert np.isnan(verdict.p_value)
    assert "single seed" in verdict.reason
    assert "2 seeds" in verdict.would_change


def test_seeds_that_disagree_are_inconclusive():
    table = falling()
    table.loc[table["seed"] < 2, "sharpness"] = table["lr"]
    assert trend(table).verdict == "inconclusive"


def test_eighty_of_a_hundred_seeds_that_rise_are_enough():
    """Clearly up in the mean, and a fifth of the seeds down: effect, interval, p-value and τ say one thing."""
    draw = np.random.default_rng(0)
    table = grid(100, lr=[0.1, 0.2, 0.4])
    slope = np.where(table["seed"] < 80, 1.0, -0.5)
    accuracy = 0.5 + 0.05 * slope * np.log2(table["lr"] / 0.1) + 0.005 * draw.normal(size=len(table))
    found = judge(
        table.assign(test_accuracy=accuracy), kind="trend", x="lr", y="test_accuracy", direction="rising"
    )
    assert found.verdict == "supported"
    assert found.effect.value == pytest.approx(0.1 * (0.8 - 0.1), abs=0.002)
    assert 0.05 < found.effect.low < found.effect.value < found.effect.high < 0.09
    assert found.p_value < 1e-15
    tau, page = found.others
    assert tau.value == pytest.approx(0.6, abs=0.02)
    assert page.value < 1e-10


def test_a_hump_contradicts_a_monotone_claim():
    table = falling(spread=0.05)
    table.loc[table["lr"] == 0.001, "sharpness"] /= (
        100  # lowest at the smallest rate, and falling from there on
    )
    verdict = trend(table)
    assert verdict.effect.name == "ratio of sharpness from lr = 0.001 to 0.01"
    assert verdict.effect.low < 10 < verdict.effect.high < 13
    assert verdict.others[0].high < 1
    assert verdict.verdict == "contradicted"
    assert "from lr = 0.001 to 0.01 goes the other way" in verdict.reason
    assert verdict.reason.endswith("a hump.")
    smooth = table.assign(rate=table["lr"])
    found = judge(smooth, kind="trend", x="rate*1.0", y="sharpness", direction="falling")
    assert found.verdict == "supported"  # neighbours in an expression need not be neighbouring settings


@pytest.mark.parametrize(("contrary", "verdict"), [(2.5, "supported"), (3.5, "contradicted")])
def test_steps_are_corrected_for_their_number(contrary, verdict):
    """One of four steps goes the wrong way by so many standard errors: 2.2 would do for one step, 3.0 for four."""
    table = grid(4, lr=RATES)
    seeds, settings = table["seed"].to_numpy(), table["lr"].rank(method="dense").astype(int).to_numpy() - 1
    left = np.random.default_rng(0).normal(size=(5, 4))
    left -= left.mean(axis=0) + left.mean(axis=1, keepdims=True) - left.mean()
    error = np.sqrt((left**2).sum() / 12 * 2 / 4)  # of a step: 12 degrees of freedom, four seeds
    means = np.array([20.0, 10.0, 10.0 + contrary * error, 5.0, 0.0])
    found = trend(table.assign(sharpness=30 + means[settings] + left[settings, seeds]), relative=False)
    assert found.verdict == verdict


def test_diverged_and_missing_rows_are_left_out():
    table = falling()
    expected = trend(table[3:]).effect
    table.loc[0, "status"] = "diverged"
    table.loc[1, "sharpness"] = np.nan
    table.loc[2, "sharpness"] = np.inf
    assert trend(table).effect == expected


def test_the_order_of_rows_does_not_matter():
    table = falling(spread=2.0)
    assert trend(table) == trend(table.sample(frac=1, random_state=1))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.drop(columns="sharpness"), "no column 'sharpness'"),
        (lambda t: t.assign(sharpness=np.nan), "no run has a finite value of sharpness"),
        (lambda t: t.assign(sharpness=1.0), "sharpness is the same at every value of lr"),
        (lambda t: t[t["lr"] == 0.1], "no seed was run at two values of lr"),
        (lambda t: t.assign(seed=range(len(t))), "no seed was run at two values of lr"),
        (lambda t: t.assign(status="diverged"), "diverged"),
        (lambda t: t[:0], "no run yet"),
    ],
)
def test_not_evaluable_says_why(spoil, said):
    verdict = trend(spoil(falling()))
    assert verdict.verdict == "not evaluable"
    assert said.lower() in verdict.reason.lower()
    assert verdict.effect is None
