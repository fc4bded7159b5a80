"""Correlations over runs, resampled by configuration."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise


def table(slope, seeds=3, settings=20):
    rows = grid(seeds, setting=list(range(settings)))
    own = np.random.default_rng(0).normal(size=settings)[rows["setting"]]
    return rows.assign(
        trace=own + noise(rows, 0.3), gap=slope * own + noise(rows, 0.5, 1), test_loss=noise(rows, 1.0, 2)
    )


def correlation(rows, sign=-1, **keys):
    return judge(rows, kind="correlation", x="trace", y="gap", sign=sign, **keys)


@pytest.mark.parametrize(
    ("slope", "verdict"), [(-1.0, "supported"), (1.0, "contradicted"), (0.0, "inconclusive")]
)
def test_verdicts(slope, verdict):
    assert correlation(table(slope)).verdict == verdict


def test_the_value_is_that_of_runs_of_one_seed():
    rows = table(-0.5)
    found = correlation(rows)
    of_seeds = [stats.kendalltau(part["trace"], part["gap"])[0] for _, part in rows.groupby("seed")]
    assert found.effect.value == pytest.approx(np.mean(of_seeds))
    assert (found.rows, found.clusters) == (60, 20)


def test_what_a_seed_does_to_all_its_runs_cancels():
    rows = table(-0.5)
    shifted = rows.assign(trace=rows["trace"] + 100 * rows["seed"], gap=rows["gap"] + 100 * rows["seed"])
    assert correlation(shifted).effect == correlation(rows).effect


def test_the_interval_is_the_jackknife_over_configurations():
    rows = table(-0.5, seeds=2, settings=8)
    found = correlation(rows).effect
    without = np.array([correlation(rows[rows["setting"] != s]).effect.value for s in range(8)])
    error = np.sqrt(7 / 8 * ((without - without.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, 6) * error
    assert (found.low, found.high) == pytest.approx(
        (max(found.value - reach, -1), min(found.value + reach, 1))
    )


def test_configurations_that_all_agree_leave_a_doubt():
    rows = grid(2, setting=list(range(8))).assign(trace=lambda t: t["setting"], gap=lambda t: -t["setting"])
    found = correlation(rows)
    assert found.verdict == "supported"
    assert found.effect.value == pytest.approx(-1)
    assert found.effect.high > -0.9


def test_seeds_of_its_own_for_each_run():
    rows = table(-1.0, seeds=1)
    rows["seed"] = range(len(rows))
    assert correlation(rows).effect.value == pytest.approx(stats.kendalltau(rows["trace"], rows["gap"])[0])


def test_fifty_seeds_of_one_setting_are_fifty():
    rows = table(0.0, seeds=50, settings=1)
    rows["gap"] = -rows["trace"] + noise(rows, 0.3, 5)
    found = correlation(rows)
    assert (found.clusters, found.verdict) == (50, "supported")
    assert not any("seed" in sentence for sentence in found.confounds)
    rows["train_loss"] = np.exp(rows["trace"])  # what the runs of one setting differ in is told of the runs
    found = correlation(rows)
    assert found.control.losses == pytest.approx((rows["train_loss"].min(), rows["train_loss"].max()))
    assert found.confounds[0].startswith("The runs stopped at unequal training losses")
    assert "rank correlation +1.00" in found.confounds[0]
    rows["gap"] = noise(rows, 1.0, 6)
    assert "runs" in correlation(rows).would_change


def test_a_single_seed_is_told():
    found = correlation(table(-1.0, seeds=1))
    assert found.verdict == "supported"
    assert "All runs share one seed, so that nothing is known of others." in found.confounds


def test_not_evaluable_or_too_few():
    assert "same in every run" in correlation(table(1.0).assign(trace=1.0)).reason
    few = correlation(table(-1.0, settings=5))
    assert few.verdict == "inconclusive"
    assert "it takes 6" in few.reason
