"""A curve is followed everywhere or not at all."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis.claims.contrast import UNEQUAL, Design, pooled_noise
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.finding import Check, correction
from sharpscope.analysis.claims.kinds.curve import means_at_settings

RATES = [0.01, 0.05, 0.1]


def follow(factor, spread=0.03, tolerance=0.25, seeds=4):
    rows = grid(seeds, lr=RATES)
    rows["lambda_max"] = 2 / rows["lr"] * rows["lr"].map(factor) * np.exp(noise(rows, spread))
    return judge(rows, kind="curve", x="lr", y="lambda_max", curve="2/lr", tolerance=tolerance)


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((1.0, 1.05, 0.97), "supported"),
        ((2.0, 2.0, 2.0), "contradicted"),
        ((0.5, 0.5, 0.5), "contradicted"),
        ((2.0, 1.0, 0.5), "contradicted"),  # right on average, and wrong
        ((1.25, 1.25, 1.25), "inconclusive"),
    ],
)
def test_verdicts(factors, verdict):
    found = follow(dict(zip(RATES, factors, strict=True)))
    assert found.verdict == verdict


def test_the_worst_point_and_the_mean():
    found = follow({0.01: 1.0, 0.05: 1.5, 0.1: 1.0}, spread=1e-9)
    assert found.effect.value == pytest.approx(1.5)
    assert found.effect.name.endswith("at lr = 0.05")
    assert found.others[0].value == pytest.approx(1.5 ** (1 / 3))
    assert found.verdict == "contradicted"
    assert "at lr = 0.05" in found.reason


def test_more_settings_do_not_average_out_what_a_seed_does_to_all():
    """Within each setting the seeds spread as far; the freedom is that of the seeds where they move together."""
    seeds, settings = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)
    draw = np.random.default_rng(0)
    own = draw.normal(size=(4, 6))
    together = draw.normal(size=(4, 1)) + 1e-3 * draw.normal(size=(4, 6))
    freedom = [
        means_at_settings(values.ravel(), settings, seeds)[0].confidence.freedom for values in (own, together)
    ]
    assert freedom[0] > 8
    assert freedom[1] == pytest.approx(3, abs=0.1)


def test_what_a_seed_does_to_all_settings_counts_where_an_f_test_finds_it():
    seeds, settings = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)
    found = []
    for number in range(30):
        y = np.random.default_rng(number).normal(size=(4, 6))
        of_seeds, left = 6 * y.mean(1).var(ddof=1), y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
        if pooled_noise(Design(np.zeros((24, 0)), y.ravel(), seeds, seeds, settings)).unequal < UNEQUAL:
            continue
        found.append(stats.f.sf(of_seeds / ((left**2).sum() / 15), 3, 15) < 0.3)
        freedom = means_at_settings(y.ravel(), settings, seeds)[0].confidence.freedom
        assert (freedom < 18) == found[-1]
    assert 3 < sum(found) < 20


def test_a_noisy_setting_has_an_interval_of_its_own():
    covered = np.zeros(6)
    seeds, settings = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)
    for number in range(200):
        y = np.random.default_rng(number).normal(size=(4, 6)) * [1, 1, 1, 1, 1, 10]
        ends = [found.interval(0.95) for found in means_at_settings(y.ravel(), settings, seeds)]
        covered += [low <= 0 <= high for low, high in ends]
    assert (covered / 200 > 0.9).all()  # with pooled noise 51 % of the noisy one's, and all of the others'
    assert covered[:5].mean() / 200 < 0.98


def test_signs_and_one_seed():
    assert follow(dict.fromkeys(RATES, -1.0)).verdict == "not evaluable"
    assert follow(dict.fromkeys(RATES, 1.0), seeds=1).verdict == "inconclusive"


def test_two_settings_at_the_edge_of_a_narrow_range_err_no_more_often_than_one_interval() -> None:
    """Chance crosses both ends of a range that is narrow beside the error: 8.8 % were once contradicted."""
    draw, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        checks = [Check("y", student(0.01 + draw.normal(size=5)), -0.01, 0.01) for _ in range(2)]
        wrong += correction(checks) * min(check.p_contradicted for check in checks) <= 0.05
    assert wrong <= 20
