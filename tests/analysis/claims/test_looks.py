"""Looks at a growing number of seeds: planned ones share a level, unplanned ones are a sequence."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import trapezoid

from analysis.claims.grids import grid, noise
from sharpscope.analysis.claims import Evidence, Looks, assess, look_level, open_claims, read_claims
from sharpscope.analysis.claims.confidence import Anytime
from sharpscope.analysis.claims.kinds.curve import means_at_settings
from sharpscope.analysis.claims.looks import Rule, sequence_p_value
from sharpscope.errors import InputError

PLAN = (3, 5, 8, 12)


def table(seeds, effect=1.0):
    rows = grid(seeds, optimizer=["sam", "sgd"])
    return rows.assign(y=effect * (rows["optimizer"] == "sam") + noise(rows, 1.0))


def verdict(seeds, looks=None, effect=1.0, **more):
    sides = {"a": {"optimizer": "sam"}, "b": {"optimizer": "sgd"}}
    (claim,) = read_claims(
        [{"id": "X", "statement": "x", "kind": "paired", "y": "y", "direction": "greater", **sides, **more}]
    )
    return assess([claim], Evidence(table(seeds, effect)), looks=looks)[0]


def test_which_looks_are_left_and_which_were_not_planned():
    looks = Looks(PLAN, (3, 8))
    assert (looks.left, looks.unplanned, looks.words()) == (
        (12,),
        False,
        "look 3 of 4 (at 3, 5, 8 and 12 seeds)",
    )
    assert Looks(PLAN).left == PLAN
    assert Looks(PLAN).words() == ""
    assert Looks((5,), (5,)).words() == ""
    late = Looks(PLAN, (3, 5, 8, 12, 14))
    assert (late.unplanned, late.left, late.words()) == (True, (), "unplanned look at 14 seeds")


@pytest.mark.parametrize("text", ["", "3,", "3,3", "8,5", "three", "3;5", "-1,3", "0", "3.5"])
def test_looks_that_cannot_be_read(text):
    with pytest.raises(InputError, match="looks are"):
        Looks.read(text)


def test_the_level_of_planned_looks_keeps_the_whole_at_95_per_cent():
    """On draws of its own: of sequences without an effect one in twenty is decided, of naive ones one in seven."""
    values = np.random.default_rng(7).normal(size=(40_000, PLAN[-1]))
    decided = {}
    for name, alpha in (("planned", 1 - look_level(PLAN)), ("naive", 0.05)):
        hit = np.zeros(len(values), dtype=bool)
        for k in PLAN:
            t = values[:, :k].mean(1) / values[:, :k].std(1, ddof=1) * np.sqrt(k)
            hit |= np.abs(t) > stats.t.ppf(1 - alpha / 2, k - 1)
        decided[name] = hit.mean()
    assert decided["planned"] == pytest.approx(0.05, abs=0.004)
    assert decided["naive"] > 0.12
    assert look_level((5, 10), 0.9) < look_level((5, 10), 0.95) < look_level((5, 10, 15), 0.95)


def test_p_values_are_those_of_the_sequence():
    alpha = 1 - look_level(PLAN)
    assert sequence_p_value(PLAN, alpha) == pytest.approx(0.05, abs=1e-3)
    assert sequence_p_value(PLAN, 1e-9) <= 4e-9
    assert sequence_p_value(PLAN, 1.0) == 1
    once, planned = verdict(8), verdict(8, Looks(PLAN, (3, 5, 8)))
    assert planned.p_value == pytest.approx(sequence_p_value(PLAN, once.p_value))
    assert once.p_value < planned.p_value <= 4 * once.p_value
    assert planned.effect.high - planned.effect.low > once.effect.high - once.effect.low
    assert planned.level == look_level(PLAN)
    assert planned.look == "look 3 of 4 (at 3, 5, 8 and 12 seeds)"


def test_the_interval_decides_as_the_p_value_does():
    for effect in np.linspace(0.2, 2.0, 19):
        found = verdict(5, Looks(PLAN, (3, 5)), effect)
        assert (found.verdict == "supported") == (found.p_value <= 0.05) == (found.effect.low > 0)


def test_an_only_look_is_no_sequence():
    assert verdict(5, Looks((5,), (5,))).p_value == verdict(5).p_value


def test_an_unplanned_look_is_judged_by_a_confidence_sequence_and_says_so():
    once, late = verdict(14), verdict(14, Looks(PLAN, (*PLAN, 14)))
    assert late.caveat.startswith("unplanned look at 14 seeds")
    assert late.look == "unplanned look at 14 seeds"
    rows = table(14).sort_values("seed")
    a, b = (rows[rows["optimizer"] == side]["y"].to_numpy() for side in ("sam", "sgd"))
    difference = a - b
    expected = Anytime(difference.mean(), difference.std(ddof=1) / np.sqrt(14), 14)
    assert (late.effect.low, late.effect.high) == pytest.approx(
        [expected.quantile(q) for q in (0.025, 0.975)]
    )
    assert late.effect.low < once.effect.low
    assert late.p_value > once.p_value


def test_what_is_no_mean_over_seeds_has_its_level_lowered():
    rows = grid(14, p=[0.0, 0.1, 0.2, 0.3])
    rows["y"] = -((rows["p"] - 0.1) ** 2) + noise(rows, 0.01)
    (claim,) = read_claims([{"id": "X", "statement": "x", "kind": "optimum", "x": "p", "y": "y"}])
    once = assess([claim], Evidence(rows))[0]
    late = assess([claim], Evidence(rows), looks=Looks((3,), (3, 14)))[0]
    assert late.p_value == pytest.approx(once.p_value * 14 * 13)


def test_an_unplanned_look_where_the_seeds_of_one_setting_agree_or_are_one_keeps_the_spread_of_all():
    values = np.array([0.0, 0.0, 1.0, 2.0, 3.0, 5.0])  # two seeds that agree, three that do not, a single one
    settings, seeds = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 0, 1, 2, 0])
    for found in means_at_settings(values, settings, seeds)[::2]:
        late = found.anytime()
        assert late.confidence.below(found.value + 1.0) < 0.975
        assert late.value == found.value


def test_a_confidence_sequence_errs_at_most_once_in_twenty_wherever_one_stops():
    draw, wrong, naive = np.random.default_rng(0), 0, 0
    for _ in range(400):
        values = draw.normal(size=30)
        k = np.arange(2, 31)
        mean = np.cumsum(values)[1:] / k
        error = np.array([values[:n].std(ddof=1) / np.sqrt(n) for n in k])
        wrong += any(
            abs(Anytime(m, e, int(n)).below(0.0) - 0.5) > 0.475
            for m, e, n in zip(mean, error, k, strict=True)
        )
        naive += bool((2 * stats.t.sf(np.abs(mean / error), k - 1) < 0.05).any())
    assert wrong / 400 < 0.05
    assert naive / 400 > 0.2


def test_the_e_value_is_the_bayes_factor_of_the_two_marginal_likelihoods():
    """By numerical integration over the standardised effect, the scale integrated out (noncentral t against t)."""
    n, t, prior = 9, 2.7, 4.0
    grid_ = np.linspace(-40, 40, 160_001)
    density = stats.norm.pdf(grid_, scale=np.sqrt(prior))
    likelihood = stats.nct.pdf(t, n - 1, grid_ * np.sqrt(n))
    factor = trapezoid(np.nan_to_num(likelihood) * density, grid_) / stats.t.pdf(t, n - 1)
    assert 2 * Anytime(t, 1.0, n, prior).below(0.0) == pytest.approx(1 / factor, rel=1e-4)


def test_the_ends_of_a_sequence_are_where_its_p_value_is_its_level():
    found = Anytime(1.0, 0.3, 7)
    for share in (0.025, 0.2, 0.8, 0.975):
        assert found.below(found.quantile(share)) == pytest.approx(share)
    assert found.quantile(0.5) == 1
    assert Anytime(1.0, 0.3, 3).quantile(0.025) == -np.inf  # three seeds exclude nothing


def test_open_claims_are_those_that_more_seeds_may_decide():
    found = [verdict(3, effect=0.1), verdict(12, effect=9.0), verdict(3, y="nothing")]
    assert [v.verdict for v in found] == ["inconclusive", "supported", "not evaluable"]
    assert open_claims(found) == ["X"]


def test_a_rule_without_looks_changes_nothing():
    rule = Rule(0.9)
    assert (rule.interval_level, rule.p_value(0.07), rule.sequential) == (0.9, 0.07, False)


def test_two_looks_have_the_level_of_the_bivariate_integral():
    """Looks at 2 and 3 seeds, integrated over all triples of normal values by brute force."""
    values = np.random.default_rng(11).normal(size=(1_000_000, 3))
    p = [
        2 * stats.t.sf(np.abs(values[:, :k].mean(1) / values[:, :k].std(1, ddof=1) * np.sqrt(k)), k - 1)
        for k in (2, 3)
    ]
    expected = np.quantile(np.minimum(*p), 0.05)
    assert 1 - look_level((2, 3)) == pytest.approx(expected, rel=0.02)


def test_many_seeds_take_no_memory():
    assert 0.974 < look_level((10, 100_000)) < 0.976  # two looks that have next to nothing in common
