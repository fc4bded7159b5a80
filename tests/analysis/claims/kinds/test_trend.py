"""Trends: what few seeds and few settings can show, and what they cannot."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis.claims.rank_trend import mean_tau

RATES = [0.001, 0.01, 0.1, 0.3, 1.0]


def falling(seeds=4, spread=0.1, **axes):
    table = grid(seeds, lr=RATES, **axes)
    return table.assign(sharpness=1 / table["lr"] * np.exp(noise(table, spread)))


def trend(table, direction="falling", **keys):
    return judge(table, kind="trend", x="lr", y="sharpness", direction=direction, **keys)


def test_a_clear_trend():
    verdict = trend(falling())
    assert verdict.verdict == "supported"
    assert verdict.effect.value == pytest.approx(-1)
    assert (
        -1 == verdict.effect.low < verdict.effect.high < -0.5
    )  # seeds that agree leave a doubt all the same
    slope = verdict.others[0]
    assert slope.name == "log–log slope of sharpness on lr"
    assert slope.low < -1 < slope.high
    assert (verdict.rows, verdict.clusters, verdict.scale) == (20, 4, "smoke")


def test_the_opposite_claim_is_contradicted():
    assert trend(falling(), "rising").verdict == "contradicted"


def test_tau_is_the_mean_over_seeds_of_scipys():
    table = falling(spread=3.0)
    table.loc[table["lr"] == 0.01, "sharpness"] = 5.0  # ties across seeds must not count
    expected = [
        stats.kendalltau(of_seed["lr"], of_seed["sharpness"])[0] for _, of_seed in table.groupby("seed")
    ]
    assert trend(table).effect.value == pytest.approx(np.mean(expected))


def test_strata_are_compared_within():
    """Simpson's paradox: sharpness falls with the rate at every batch size, and rises over all."""
    table = grid(4, lr=RATES, batch=[1, 1000])
    table = table[(table["lr"] >= 0.1) == (table["batch"] == 1000) | (table["lr"] == 0.1)]
    table = table.assign(sharpness=np.where(table["batch"] == 1000, 1e6, 1.0) / table["lr"])
    assert trend(table).effect.value > 0
    assert trend(table, within=["batch"]).effect.value == pytest.approx(-1)


def test_one_seed_has_a_value_and_no_verdict():
    verdict = trend(falling(seeds=1))
    assert verdict.verdict == "inconclusive"
    assert verdict.effect.value == pytest.approx(-1)
    assert np.isnan(verdict.effect.low)
    assert "single seed" in verdict.reason
    assert "two seeds" in verdict.would_change


def test_seeds_that_disagree_are_inconclusive():
    table = falling()
    table.loc[table["seed"] < 2, "sharpness"] = table["lr"]
    verdict = trend(table)
    assert verdict.verdict == "inconclusive"
    assert verdict.effect.value == 0


def test_a_trend_that_hangs_on_one_setting_is_inconclusive():
    table = falling(spread=0.0)
    order = dict(zip(RATES, [5, 1, 2, 1.5, 0.5], strict=True))
    table["sharpness"] = table["lr"].map(order)
    verdict = trend(table)
    assert verdict.effect.value == pytest.approx(-0.6)
    assert verdict.verdict == "inconclusive"
    assert "more settings" in verdict.would_change


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


@pytest.mark.parametrize(("seeds", "slope"), [(2, 0.0), (3, 0.0), (3, 3.0)])
def test_the_interval_covers_the_mean_tau(seeds, slope):
    """The seeds carry slopes of their own, which a bootstrap over rows would take for certain."""
    draw = np.random.default_rng(seeds)
    levels, repetitions = np.linspace(-1, 1, 7), 200

    def values(count):
        own = slope + draw.normal(size=(count, 1))
        return own * levels + draw.normal(size=(count, 7))

    many = values(20_000)
    first, second = np.triu_indices(7, 1)
    truth = np.sign(many[:, second] - many[:, first]).mean()
    labels = np.repeat(np.arange(seeds), 7)
    covered = 0
    for _ in range(repetitions):
        y = values(seeds).ravel()
        settings = np.tile(np.arange(7), seeds)
        found = mean_tau(np.tile(levels, seeds), y, labels, labels, settings, np.arange(len(y)), 0.95)
        covered += found.low <= truth <= found.high
    assert covered / repetitions > 0.91


def test_epochs_of_the_same_runs_are_no_further_evidence():
    x, y = np.tile([1.0, 2, 3, 4], 2), np.tile([4.0, 3, 2, 1], 2)
    seeds, settings = np.repeat([0, 1], 4), np.tile(np.arange(4), 2)
    once = mean_tau(x, y, seeds, seeds, settings, np.arange(8), 0.95)
    blocks = np.concatenate([seeds, seeds + 2])
    twice = mean_tau(  # type: ignore[call-arg]
        *(np.tile(v, 2) for v in (x, y)),
        blocks,
        *(np.tile(v, 2) for v in (seeds, settings, np.arange(8))),
        0.95,
    )
    assert once == twice
