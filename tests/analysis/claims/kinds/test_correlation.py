"""Correlations over runs, resampled by configuration."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis import correlations, partial_correlations


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
@pytest.mark.parametrize("method", ["kendall", "spearman"])
def test_verdicts(slope, verdict, method):
    assert correlation(table(slope), method=method).verdict == verdict


def test_value_and_interval_are_those_of_the_table_of_correlations():
    rows = table(-0.5)
    long = rows[["run_id", "trace"]].rename(columns={"trace": "value"}).assign(measure="trace")
    expected = correlations(rows, long, ["gap"], ["kendall"]).iloc[0]
    found = correlation(rows)
    assert found.effect.value == pytest.approx(stats.kendalltau(rows["trace"], rows["gap"])[0])
    assert (found.effect.low, found.effect.high) == pytest.approx((expected["low"], expected["high"]))
    assert (found.rows, found.clusters) == (60, 20)
    given = partial_correlations(rows, long, ["gap"], ["spearman"]).iloc[0]
    partial = found.control.partial
    assert (partial.value, partial.low, partial.high) == pytest.approx(
        (given["value"], given["low"], given["high"])
    )


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
    assert "number of runs would settle it" in correlation(rows).would_change


def test_a_single_seed_is_told():
    found = correlation(table(-1.0, seeds=1))
    assert found.verdict == "supported"
    assert "All runs share one seed, so that nothing is known of others." in found.confounds


def test_not_evaluable_or_too_few():
    assert "same in every run" in correlation(table(1.0).assign(trace=1.0)).reason
    assert correlation(table(-1.0, settings=2)).verdict == "inconclusive"
