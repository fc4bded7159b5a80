"""From checks to words: several checks, several parts, several claims, and effects too small to matter."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis.claims import (
    Evidence,
    assess,
    false_discovery_sentence,
    read_claims,
    with_false_discovery,
)
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.finding import Check, Named
from sharpscope.analysis.claims.judgement import Judgement, conjunction
from sharpscope.analysis.claims.looks import Rule
from sharpscope.analysis.claims.verdict import Verdict


def around(value, spread=1.0, n=8):
    values = np.linspace(-1, 1, n)
    return student(value + spread * values / values.std(ddof=1))


def judged(*checks, **more):
    return Judgement(checks, Rule(0.95), Named("effect", checks[0].estimate), **more)


@pytest.mark.parametrize("value", [-1.5, -0.5, 0.3, 0.9, 2.0])
@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (-np.inf, 0.0), (-1.0, 1.0)])
def test_the_p_value_is_the_level_at_which_the_interval_begins_to_decide(value, low, high):
    check = Check("effect", around(value), low, high)
    found = judged(check)
    for p, inside in ((found.p_supported, True), (found.p_contradicted, False)):
        if 1e-6 < p < 1:
            for level, yet in ((1 - 0.98 * p, False), (1 - 1.02 * p, True)):
                ends = check.estimate.interval(level)
                lies = low < ends[0] and ends[1] < high if inside else ends[1] < low or ends[0] > high
                assert lies == yet
    assert found.p_value == min(found.p_supported, found.p_contradicted)


def test_a_two_sided_p_value_is_scipys():
    values = np.random.default_rng(0).normal(0.5, 1, 7)
    assert judged(Check("effect", student(values), 0.0)).p_value == pytest.approx(
        stats.ttest_1samp(values, 0).pvalue
    )


def test_the_opposite_claim_has_the_opposite_verdict_and_the_same_p_value():
    for value in (0.2, 0.9, 3.0):
        up, down = judged(Check("e", around(value), 0.0)), judged(Check("e", around(value), high=0.0))
        assert up.p_value == pytest.approx(down.p_value, rel=1e-9)
        assert {up.word, down.word} in ({"supported", "contradicted"}, {"inconclusive"})
        mirrored = judged(Check("e", around(-value), high=0.0))
        assert mirrored.p_value == pytest.approx(up.p_value, rel=1e-9)


@pytest.mark.parametrize(("others", "word"), [(0, "contradicted"), (1, "contradicted"), (2, "inconclusive")])
def test_any_of_more_than_two_checks_contradicts_at_a_level_that_allows_for_their_number(others, word):
    error = 1 / np.sqrt(8)
    clear = [Check(f"c{i}", around(9.0), 0.0) for i in range(others)]
    assert judged(Check("a", around(-2.6 * error), 0.0), *clear).word == word  # t.975 is 2.36, t.9833 2.64
    assert judged(Check("a", around(-2.7 * error), 0.0), *clear).word == "contradicted"


def test_true_nulls_of_two_checks_are_decided_once_in_twenty_whatever_their_correlation():
    draw = np.random.default_rng(0)
    for common in (0.0, 0.8, 1.0):
        y = np.sqrt(1 - common) * draw.normal(size=(4000, 2, 5)) + np.sqrt(common) * draw.normal(
            size=(4000, 1, 5)
        )
        t = y.mean(2) / y.std(2, ddof=1) * np.sqrt(5)
        edge = stats.t.ppf(0.975, 4)
        decided = (t < -edge).any(axis=1) | (t > edge).all(axis=1)
        words = [
            judged(
                *(Check(name, student(values), 0.0) for name, values in zip("ab", table, strict=True))
            ).word
            for table in y[:50]
        ]
        assert [word != "inconclusive" for word in words] == decided[:50].tolist()
        assert 0.037 < decided.mean() < 0.063


def test_both_of_two_checks_support_without_a_correction():
    near = Check("a", around(2.5 / np.sqrt(8)), 0.0)
    assert judged(near, near).word == judged(near).word == "supported"
    assert judged(near, near).p_supported == judged(near).p_supported


@pytest.mark.parametrize(
    ("value", "matters", "word"),
    [(0.0, 1.0, "negligible"), (0.5, 2.0, "negligible"), (3.0, 1.0, "supported"), (-3.0, 1.0, "contradicted"),
     (0.0, 0.5, "inconclusive"), (0.9, 1.0, "supported")],
)  # fmt: skip
def test_an_effect_within_what_matters_is_negligible_whatever_its_sign(value, matters, word):
    assert judged(Check("e", around(value, 0.9), 0.0), matters=matters).word == word


def test_a_ratio_matters_by_a_factor():
    rows = grid(8, lr=[1, 2]).assign(sharpness=lambda t: 3 * np.exp(0.02 * t["lr"] + noise(t, 0.01)))
    claim = {"kind": "trend", "x": "lr", "y": "sharpness", "direction": "rising"}
    assert judge(rows, **claim).verdict == "supported"
    found = judge(rows, **claim, matters=0.1)
    assert found.verdict == "negligible"
    assert "within what matters" in found.reason
    assert judge(rows, **claim, matters=0.005).verdict == "supported"
    fall = rows.assign(sharpness=1 / rows["sharpness"])
    assert judge(fall, **claim, matters=0.1).verdict == "negligible"
    assert judge(fall, **claim, matters=0.1).p_value == pytest.approx(found.p_value)


def test_a_claim_of_equality_takes_what_matters_for_its_margin():
    rows = grid(8, lr=[1, 2]).assign(test_accuracy=lambda t: 0.9 + noise(t, 0.001))
    claim = {"kind": "flat", "x": "lr", "y": "test_accuracy", "relative": False}
    assert judge(rows, **claim, matters=0.01).verdict == "supported"
    assert judge(rows, **claim, margin=0.01, matters=0.5).verdict == "supported"


def verdict(word, p, name="X", sides=2):
    return Verdict(
        name, "", "trend", word, "Because.", None, (), 1, 1, "", None, (), "", p_value=p, sides=sides
    )


@pytest.mark.parametrize(
    ("parts", "word", "p"),
    [
        ([("supported", 0.01), ("supported", 0.03)], "supported", 0.03),
        ([("contradicted", 0.01), ("supported", 0.001), ("inconclusive", 0.5)], "contradicted", 0.03),
        ([("contradicted", 0.02), ("supported", 0.001), ("inconclusive", 0.5)], "inconclusive", 0.5),
        (
            [("contradicted", np.nan), ("supported", 0.001)],
            "contradicted",
            np.nan,
        ),  # an identity, "every seed"
        ([("negligible", 0.01), ("inconclusive", 0.4)], "negligible", 0.01),
        ([("not evaluable (untrained)", np.nan), ("supported", 0.01)], "not evaluable (untrained)", np.nan),
        ([("contradicted", 0.001), ("not evaluable (untrained)", np.nan)], "contradicted", 0.001),
        ([("not evaluable", np.nan), ("supported", 0.01)], "inconclusive", 0.01),
        ([("not evaluable", np.nan), ("not evaluable", np.nan)], "not evaluable", np.nan),
    ],
)
def test_parts(parts, word, p):
    named = [verdict(*part, f"X.{i}") for i, part in enumerate(parts)]  # type: ignore[call-arg]
    found = conjunction(named, 0.05)
    assert found[0] == word
    assert found[3] == pytest.approx(p, nan_ok=True)


@pytest.mark.parametrize(("sides", "p"), [((1, 1), 0.04), ((1, 1, 1), 0.06), ((1, 2), 0.06), ((2, 2), 0.08)])
def test_a_part_that_chance_contradicts_on_one_side_counts_half(sides, p):
    parts = [verdict("contradicted", 0.04, "X.1", sides[0])]
    parts += [verdict("supported", 0.01, f"X.{i}", one) for i, one in enumerate(sides[1:], 2)]
    word, reason, _, found = conjunction(parts, 0.05)
    assert word == ("contradicted" if p <= 0.05 else "inconclusive")
    assert found == pytest.approx(p) if p <= 0.05 else f"is {p:.2g}" in reason


def test_sides_are_those_on_which_the_checks_of_a_claim_can_fail():
    rows = grid(6, lr=[1, 2, 4]).assign(y=lambda t: noise(t, 0.1))
    assert judge(rows, kind="trend", x="lr", y="y", direction="rising").sides == 1
    assert judge(rows, kind="flat", x="lr", y="y", margin=5.0, relative=False).sides == 1
    assert judge(rows, kind="flat", x="lr", y="y", margin=0.001, relative=False).sides == 2


def test_a_part_that_alone_would_be_contradicted_says_so():
    parts = [verdict("contradicted", 0.03, "X.1"), *(verdict("supported", 0.01, f"X.{i}") for i in (2, 3))]
    word, reason, deciding, _ = conjunction(parts, 0.05)
    assert (word, deciding.id) == ("inconclusive", "X.1")
    assert "its p-value times 3 is 0.09" in reason


def test_false_discoveries_are_scipys():
    p = [0.001, 0.2, 0.04, 0.03, np.nan, 0.9]
    found = with_false_discovery([verdict("supported", value, str(i)) for i, value in enumerate(p)])
    expected = stats.false_discovery_control([value for value in p if value == value])
    assert [v.q_value for v in found if v.q_value == v.q_value] == pytest.approx(expected)
    assert np.isnan(found[4].q_value)


def test_where_false_discoveries_differ_is_said():
    verdicts = [verdict("supported", 0.03, "A"), *(verdict("inconclusive", 0.6, f"B{i}") for i in range(9))]
    sentence = false_discovery_sentence(with_false_discovery(verdicts))
    assert sentence.startswith("Among 10 claims")
    assert " A would not count as decided" in sentence
    assert false_discovery_sentence(with_false_discovery(verdicts[:1])) == ""
    assert false_discovery_sentence([]) == ""


def test_claims_judged_together_have_their_q_values():
    rows = grid(4, lr=[1, 2, 3]).assign(
        y=lambda t: t["lr"] + noise(t, 0.1), coin=lambda t: 9 + noise(t, 1.0, 1)
    )
    claims = [
        {"id": name, "statement": "s", "kind": "trend", "x": "lr", "y": name, "direction": "rising"}
        for name in ("y", "coin")
    ]
    both = assess(read_claims(claims), Evidence(rows))
    alone = assess(read_claims(claims[:1]), Evidence(rows))
    assert both[0].q_value == pytest.approx(2 * alone[0].q_value)
