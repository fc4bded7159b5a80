"""What holds in every row, or in most."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis.claims.kinds.bound import two_way_mean


def test_an_invariance_fails_with_one_row():
    rows = grid(3, lr=[1, 2]).assign(change=[1e-6, -1e-5, 0.0, 9e-5, -9e-5, 2e-5])
    found = judge(rows, kind="invariance", y="change")
    assert (found.verdict, found.effect.value) == ("supported", pytest.approx(9e-5))
    assert np.isnan(found.effect.low)
    rows.loc[4, "change"] = -2e-4
    found = judge(rows, kind="invariance", y="change")
    assert found.verdict == "contradicted"
    assert "1 of 6 rows exceed 0.0001" in found.reason
    assert judge(rows, kind="invariance", y="change", below=1e-3).verdict == "supported"


def bound(rows, **keys):
    return judge(rows, kind="bound", low_side="reached", high_side="promised", **keys)


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.7, "supported"), (1.4, "contradicted"), (1.0, "inconclusive")]
)
def test_the_geometric_mean_against_the_bound(ratio, verdict):
    rows = grid(3, lr=list(range(8)))
    rows = rows.assign(promised=2.0, reached=2 * ratio * np.exp(noise(rows, 0.1)))
    found = bound(rows)
    assert found.verdict == verdict
    of_settings = (rows["reached"] / rows["promised"]).map(np.log).groupby(rows["lr"]).mean()
    assert found.effect.value == pytest.approx(np.exp(of_settings.mean()))
    assert found.others[0].value == pytest.approx((rows["reached"] <= 2).mean())
    assert found.others[1].value == pytest.approx((rows["reached"] / 2).max())
    assert bound(rows, slack=1.0).verdict == "supported"


def test_what_a_seed_does_to_all_models_widens_the_interval():
    rows = grid(4, lr=list(range(8)))
    own = rows.assign(promised=1.0, reached=np.exp(noise(rows, 0.2)))
    shared = own.assign(reached=own["reached"] * np.exp(0.3 * (rows["seed"] - 1.5)))
    widths = [np.log(found.high / found.low) for found in (bound(own).effect, bound(shared).effect)]
    assert widths[1] > 2 * widths[0]


def test_what_seeds_share_counts_where_it_is_found():
    """Mean squares of seeds 1.3 and 5 times the residual's: p-values .34 and .05 with 2 and 6 degrees of freedom."""
    rows = grid(3, lr=list(range(4)))
    of_model, of_seed = rows["lr"] - 1.5, rows["seed"] - 1.0
    pattern = of_model * (3 * of_seed**2 - 2) / 10  # adds to zero in each model and each seed
    residual = float((pattern**2).sum()) / 6
    for times, counts in ((1.3, False), (5.0, True)):
        shared = of_seed * np.sqrt(times * residual / 4)  # mean square: 4 models x 2 / 2 degrees of freedom
        found = bound(rows.assign(promised=1.0, reached=np.exp(0.1 * of_model + pattern + shared))).effect
        means = 0.1 * (np.arange(4) - 1.5)
        plain = stats.t.ppf(0.975, 3) * means.std(ddof=1) / 2
        reach = np.log(found.high / found.low) / 2
        assert (reach > 1.1 * plain) == counts
        assert counts or reach == pytest.approx(plain)


def test_models_and_seeds_change_places_and_the_fewer_count_more():
    draw = np.random.default_rng(0)
    y = draw.normal(size=(12, 1)) + 2 * draw.normal(size=(1, 3)) + 0.5 * draw.normal(size=(12, 3))
    models, seeds = (index.ravel() for index in np.indices(y.shape))
    one, other = two_way_mean(y.ravel(), models, seeds), two_way_mean(y.ravel(), seeds, models)
    assert one.interval(0.95) == pytest.approx(other.interval(0.95))
    left = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    squares = np.array([3 * y.mean(1).var(ddof=1), 12 * y.mean(0).var(ddof=1), (left**2).sum() / 22])

    def freedom(times):
        parts = squares * [1, times, 1]
        return (parts[0] + parts[1] - parts[2]) ** 2 / (parts**2 / [11, 2, 22]).sum()

    assert one.confidence.freedom == pytest.approx(freedom((11 / 2 - 1) / 2))
    assert freedom((11 / 2 - 1) / 2) < freedom(1)


def test_models_that_share_two_seeds_have_no_interval():
    rows = grid(2, lr=list(range(8))).assign(promised=1.0, reached=0.5)
    found = bound(rows)
    assert (found.verdict, np.isnan(found.effect.low)) == ("inconclusive", True)
    assert "At least 3 seeds would" in found.would_change
    rows["seed"] = range(len(rows))  # models that share no seed are a plain sample
    assert bound(rows).verdict == "supported"
    assert bound(grid(20, lr=[1]).assign(promised=1.0, reached=0.5)).clusters == 20


def test_a_seed_that_one_model_lacks_is_left_out_and_named():
    rows = grid(5, lr=list(range(4)))
    rows = rows.assign(promised=1.0, reached=0.5 * np.exp(noise(rows, 0.1)))
    whole = rows[rows["seed"].isin([0, 2, 3])]
    part = pd.concat(
        [whole, rows[(rows["seed"] == 1) & (rows["lr"] > 0)], rows[(rows["seed"] == 4) & (rows["lr"] == 0)]]
    )
    found = bound(part.reset_index(drop=True))
    assert found.effect == bound(whole.reset_index(drop=True)).effect
    sentence = "Left out of the mean, since not every configuration has it: seed 1, 4."
    assert sentence in found.confounds
    assert not any("Left out of the mean" in text for text in bound(rows).confounds)


def test_a_mean_of_logarithms_needs_positive_values():
    assert "positive" in bound(grid(3, lr=[1, 2]).assign(promised=1.0, reached=0.0)).reason
