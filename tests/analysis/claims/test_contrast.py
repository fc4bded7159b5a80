"""The interval of a slope: against explicit least squares, and on designs that are not complete."""

import numpy as np
import pytest
from scipy import stats

from sharpscope.analysis.claims.contrast import FEW_SEEDS, Design, coefficient, pooled_noise, steps


def design(seeds=3, settings=4, spread=0.0, keep=None, seed=0):
    draw = np.random.default_rng(seed)
    owner, x = np.repeat(np.arange(seeds), settings), np.tile(np.arange(settings), seeds)
    own = spread * draw.normal(size=seeds)[owner]
    y = 5 * owner + (1 + own) * x + np.sin(3 * x) + 0.3 * draw.normal(size=len(x))
    keep = np.ones(len(x), bool) if keep is None else keep(owner, x)
    return Design(x[keep, None].astype(float), y[keep], owner[keep], owner[keep], x[keep])


def by_hand(given):
    """Slope, standard error and freedom from two explicit regressions."""
    dummies = [np.eye(n.max() + 1)[n] for n in (given.seeds, given.settings)]
    both = np.hstack(dummies)
    left = given.y - both @ np.linalg.lstsq(both, given.y, rcond=None)[0]
    freedom = len(given.y) - np.linalg.matrix_rank(both)
    slope_design = np.hstack([dummies[0], given.columns])
    slope = np.linalg.lstsq(slope_design, given.y, rcond=None)[0][-1]
    inverse = np.linalg.pinv(slope_design.T @ slope_design)[-1, -1]
    return slope, np.sqrt(left @ left / freedom * inverse), freedom


@pytest.mark.parametrize(
    "keep",
    [
        None,
        lambda owner, x: (owner != 1) | (x != 2),
        lambda owner, x: (owner + x) % 4 != 3,
        lambda owner, x: (owner > 0) | (x < 2),
    ],
    ids=["complete", "one run missing", "one per seed missing", "half a seed missing"],
)
def test_few_seeds_pool_the_noise_of_settings_and_seeds(keep):
    given = design(keep=keep)
    found = coefficient(given, np.ones(1))
    slope, error, freedom = by_hand(given)
    assert (found.value, found.clusters) == (pytest.approx(slope), 3)
    assert pooled_noise(given).freedom == freedom
    reach = stats.t.ppf(0.975, freedom) * error
    assert found.interval(0.95) == pytest.approx((slope - reach, slope + reach))


def test_many_seeds_whose_slopes_differ_are_judged_by_their_own_slopes():
    given = design(seeds=8, spread=3.0)
    slopes = [
        np.polyfit(given.columns[given.seeds == s, 0], given.y[given.seeds == s], 1)[0] for s in range(8)
    ]
    expected = stats.t.interval(0.95, 7, np.mean(slopes), stats.sem(slopes))
    assert coefficient(given, np.ones(1)).interval(0.95) == pytest.approx(expected)


def test_many_seeds_whose_slopes_agree_keep_the_pooled_noise():
    given = design(seeds=8, seed=1)
    slope, error, freedom = by_hand(given)
    reach = stats.t.ppf(0.975, freedom) * error
    assert coefficient(given, np.ones(1)).interval(0.95) == pytest.approx((slope - reach, slope + reach))
    assert freedom == 21


def with_slopes_apart(seeds, f):
    """A design of three settings whose slopes differ between seeds with this F statistic, and its error if pooled."""
    owner, x = np.repeat(np.arange(seeds), 3), np.tile(np.arange(3), seeds)
    unlike = np.linspace(-1, 1, seeds)
    bend = np.tile([1.0, -2.0, 1.0], seeds) * np.roll(unlike, 1)[owner]
    slope = (x - 1) * unlike[owner]
    slope *= np.sqrt(f * (bend @ bend) / (slope @ slope))
    return Design(x[:, None].astype(float), slope + bend, owner, owner, x)


@pytest.mark.parametrize("seeds", [3, 5, 6, 10])
def test_the_error_is_pooled_unless_the_slopes_differ_at_a_level_that_few_seeds_lower(seeds):
    level = 0.1 if seeds <= FEW_SEEDS else 0.25
    edge = stats.f.isf(level, seeds - 1, seeds - 1)
    for f, freedom in ((0.98 * edge, 2 * (seeds - 1)), (1.02 * edge, seeds - 1)):
        found = coefficient(with_slopes_apart(seeds, f), np.ones(1))
        assert found.confidence.freedom == freedom


def test_a_step_between_neighbours_is_judged_by_the_seeds_own_where_they_differ():
    """Three seeds change by -2, 0 and 2 from the first setting to the second, and hardly elsewhere."""
    owner, x = np.repeat(np.arange(3), 6), np.tile(np.arange(6), 3)
    y = 2.0 * (owner - 1) * (x == 0) + 0.01 * np.random.default_rng(0).normal(size=len(x))
    found = steps(Design(x[:, None].astype(float), y, owner, owner, x), x.astype(float))
    assert [step.confidence.freedom for *_, step in found] == [
        2,
        2,
        2,
        2,
        2,
    ]  # and elsewhere noise is another
    errors = [step.confidence.error for *_, step in found]
    assert errors[0] > 1
    assert max(errors[1:]) < 0.02


def tables(sizes, seeds, number):
    """Tables without an effect whose settings have noises of these sizes, and what every seed does alike."""
    draw = np.random.default_rng(number)
    y = draw.normal(size=(seeds, len(sizes))) * sizes + draw.normal(size=(seeds, 1))
    owner, x = np.repeat(np.arange(seeds), len(sizes)), np.tile(np.arange(len(sizes)), seeds)
    return Design(x[:, None].astype(float), y.ravel(), owner, owner, x)


@pytest.mark.parametrize(
    ("sizes", "seeds", "least"),
    [((1, 1, 1, 1, 1, 10), 2, 0.84), ((1, 1, 1, 1, 1, 10), 3, 0.9), ((1, 1, 1, 1, 10), 5, 0.91)],
)  # with pooled noise .77, .82 and .88
def test_intervals_hold_where_one_setting_is_ten_times_as_noisy(sizes, seeds, least):
    ends = [coefficient(tables(sizes, seeds, number), np.ones(1)).interval(0.95) for number in range(400)]
    assert np.mean([low <= 0 <= high for low, high in ends]) >= least


def test_a_noisy_setting_between_does_not_widen_the_interval_of_a_trend():
    found = [coefficient(tables((1, 30, 1), 5, number), np.ones(1)).confidence for number in range(40)]
    assert np.mean([one.freedom == 4 for one in found]) > 0.8
    assert np.median([one.error for one in found]) < 1


def test_equal_noise_is_found_unequal_no_more_often_than_said():
    found = np.array([pooled_noise(tables((1, 1, 1, 1), 4, number)).unequal for number in range(400)])
    for level in (0.01, 0.05, 0.5):
        assert np.mean(found < level) == pytest.approx(level, abs=3 * np.sqrt(level / 400))
    assert (
        pooled_noise(tables((1, 9), 4, 0)).unequal == 1.0
    )  # the residuals of two settings mirror each other


def test_seeds_with_fewer_runs_weigh_less():
    """Five seeds ran four settings, three ran two neighbouring ones with wild slopes of their own."""
    given = design(seeds=8, keep=lambda owner, x: (owner < 5) | (x < 2))
    wild = given.y + np.where(given.seeds >= 5, 4.0 * (given.seeds - 6) * given.columns[:, 0], 0.0)
    found = coefficient(Design(given.columns, wild, given.seeds, given.seeds, given.settings), np.ones(1))
    slopes = np.array([np.ptp(wild[(given.seeds == s) & (given.settings < 2)]) for s in range(8)])
    low, high = found.interval(0.95)
    assert low < found.value < high
    assert abs(found.value - 1) < abs(slopes.mean() - 1)


def test_epochs_of_a_run_are_not_pooled():
    given = design()
    twice = Design(  # type: ignore[call-arg]
        *(np.concatenate([v, v]) for v in (given.columns, given.y)),
        np.concatenate([given.blocks, given.blocks + 3]),
        *(np.concatenate([v, v]) for v in (given.seeds, given.settings)),
        separate=False,
    )
    once = Design(given.columns, given.y, given.blocks, given.seeds, given.settings, separate=False)
    assert coefficient(twice, np.ones(1)).interval(0.95) == pytest.approx(
        coefficient(once, np.ones(1)).interval(0.95)
    )


def test_one_seed_no_slope_no_freedom():
    assert coefficient(design(seeds=1), np.ones(1)).confidence is None
    flat = design()
    constant = Design(flat.columns * 0, flat.y, flat.seeds, flat.seeds, flat.settings)
    assert coefficient(constant, np.ones(1)).clusters == 0
    apart = design(seeds=2, keep=lambda owner, x: (owner == 0) == (x < 2))  # no setting in both seeds
    slopes = [apart.y[1] - apart.y[0], apart.y[3] - apart.y[2]]
    expected = stats.t.interval(0.95, 1, np.mean(slopes), stats.sem(slopes))
    assert coefficient(apart, np.ones(1)).interval(0.95) == pytest.approx(expected)


def test_no_noise_in_five_seeds_is_certainty_and_rounding_is_no_noise():
    owner, x = np.repeat(np.arange(5), 4), np.tile(np.arange(4), 5)
    y = 0.1 * owner + 0.7 * x + 1e6
    found = coefficient(Design(x[:, None].astype(float), y, owner, owner, x), np.ones(1))
    assert found.interval(0.95) == pytest.approx((0.7, 0.7))
    constant = coefficient(Design(x[:, None].astype(float), 0.1 * owner, owner, owner, x), np.ones(1))
    assert (constant.value, constant.below(0.0)) == (0, 0.5)
    four = owner < 4
    first = Design(x[four, None].astype(float), y[four], owner[four], owner[four], x[four])
    alike = coefficient(first, np.ones(1))
    assert (alike.value, alike.alike, alike.needed) == (pytest.approx(0.7), True, 5)
    assert alike.confidence is None


def test_steps_are_differences_of_neighbours_with_the_noise_of_all():
    given = design()
    found = steps(given, given.columns[:, 0])
    noise = pooled_noise(given)
    means = np.array([given.y[given.settings == s].mean() for s in range(4)])
    assert [(low, high) for low, high, _ in found] == [(0, 1), (1, 2), (2, 3)]
    assert [step.value for *_, step in found] == pytest.approx(np.diff(means))
    reach = stats.t.ppf(0.975, noise.freedom) * np.sqrt(2 * noise.variance / 3)
    assert found[0][2].interval(0.95) == pytest.approx(
        (means[1] - means[0] - reach, means[1] - means[0] + reach)
    )


def test_thousands_of_rows():
    found = coefficient(design(seeds=200, settings=12), np.ones(1))
    assert found.clusters == 200
    assert np.ptp(found.interval(0.95)) < 0.05
