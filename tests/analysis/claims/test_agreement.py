"""On any table the verdict, the p-value and the effect with its interval say one thing, for every kind of claim."""

import warnings
from dataclasses import replace
from math import isfinite

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.claims.grids import grid
from sharpscope.analysis.claims import KINDS, Evidence, Looks, assess, read_claims
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.finding import Check, Named
from sharpscope.analysis.claims.judgement import Judgement
from sharpscope.analysis.claims.looks import Rule

MATTERS = 0.3
SIDES = {"a": {"optimizer": "sam"}, "b": {"optimizer": "sgd"}}
CLAIMS = {
    "trend": {"x": "lr", "y": "y", "direction": "rising", "within": ["optimizer"]},
    "flat": {"x": "lr", "y": "y", "margin": 2.0, "relative": False, "within": ["optimizer"]},
    "paired": {"y": "y", "direction": "greater", "match": ["seed", "lr"], **SIDES},
    "curve": {"x": "lr", "y": "positive", "curve": "1", "tolerance": 1.0, "where": {"optimizer": "sgd"}},
    "matched": {"y": "y", "match_on": "other", "direction": "greater", **SIDES},
    "interaction": {"x": "lr", "y": "y", "by": "optimizer", "direction": "falling"},
    "crossing": {"x": "lr", "y": "y", "low": "greater", "match": ["seed"], **SIDES},
    "optimum": {"x": "lr", "y": "peaked", "within": ["optimizer"]},
    "curve_distance": {"y": ["train_loss"], "baseline": {"optimizer": "sgd", "lr": 0.01}, **SIDES},
    "basin_width": {"direction": "wider", **SIDES},
    "variance_ratio": {"y": "y", "direction": "greater", "within": ["lr"], **SIDES},
    "correlation": {"x": "positive", "y": "y", "sign": 1},
    "bound": {"low_side": "other", "high_side": "positive"},
    "ratio_law": {"y": "positive", "numerator": "lr", "denominator": "batch_size", "margin": 0.5},
}
WAYS = (({}, None), ({}, Looks((3, 8), (3,))), ({}, Looks((3,), (3, 4))), ({"matters": MATTERS}, None))
"""Each table is judged once without looks, and then in one of the other ways."""


def evidence(number):
    """A table of random effects, noise, seeds and holes, with curves and interpolations."""
    draw = np.random.default_rng(number)
    seeds = int(draw.choice([2, 3, 4, 6, 7, 9]))
    rows = grid(seeds, lr=[0.01, 0.1, 1.0, 10.0], optimizer=["sam", "sgd"])
    u, sam = np.log10(rows["lr"]), (rows["optimizer"] == "sam").astype(float)
    seed = draw.normal(size=seeds)[rows["seed"]]
    size = draw.choice([0.0, 0.5, 2.0], 6) * draw.choice([-1.0, 1.0], 6)

    def noise():
        one = draw.normal if number % 2 else lambda size: draw.standard_t(3, size) / 1.7
        return one(size=len(rows)) + 0.7 * seed

    rows["batch_size"] = np.where((u + sam) % 2 == 0, 32, 128)
    spread = np.exp(size[5] * sam)
    rows["y"] = size[0] * u + sam * (size[1] + size[2] * (0.5 - u)) + spread * noise()
    rows["peaked"] = -size[3] * np.abs(u) * 2 + noise()
    rows["positive"] = np.exp(0.4 * size[4] * u + 0.3 * noise() + 0.1 * rows["y"])
    rows["other"] = np.exp(0.3 * u + size[2] + 0.3 * noise())
    if number % 4 == 3:
        rows = rows.assign(y=rows["y"].round(), positive=rows["positive"].round(1) + 0.1)
    if number % 3 == 2:
        rows = rows[draw.uniform(size=len(rows)) > 0.15].reset_index(drop=True)
    epochs = [
        {"run_id": row.run_id, "epoch": epoch, "train_loss": away * row.other / epoch + 0.1 * draw.normal()}
        for row, away in zip(rows.itertuples(), np.exp(size[1] * (rows["optimizer"] == "sam")), strict=True)
        for epoch in (1, 2, 3)
    ]
    runs = {(row.optimizer, row.lr, row.seed): row.run_id for row in rows.itertuples()}
    lines = [
        {"pair": f"p{i}", "run_a": run, "run_b": runs["sgd", lr, of], "alpha": 0.0, "loss": 1.0}
        | {"width_a": float(np.exp(size[1] + draw.normal())), "width_b": 1.0}
        for i, ((optimizer, lr, of), run) in enumerate(runs.items())
        if optimizer == "sam" and ("sgd", lr, of) in runs
    ]
    return Evidence(rows, pd.DataFrame(epochs), pd.DataFrame(lines))


def claimed(kind):
    given = {"id": "X", "statement": "It is so.", "kind": kind, **CLAIMS[kind]}
    if kind == "curve_distance":
        given |= {"a": {"optimizer": "sam", "lr": 0.1}, "b": {"optimizer": "sgd", "lr": 0.1}}
    return given


def range_of(finding, name, matters):
    """What is claimed of the number that is shown, and whether it is one that must not be."""
    for number in (finding.effect, *finding.checks, *finding.never):
        if number.name == name and matters is not None:
            own = replace(finding.effect, name=name, estimate=number.estimate).within(matters)
            return (own.low, own.high), False
    for checks, contrary in ((finding.checks, False), (finding.never, True)):
        for check in checks:
            if check.name == name:
                return (check.low, check.high), contrary
    raise AssertionError(f"{name} is no check")


def agrees(found, finding):
    """Assert that word, p-value and interval say one thing; return whether there is an interval."""
    if found.verdict.startswith("not evaluable"):
        assert not isfinite(found.p_value)
        return False
    effect = found.effect
    if not isfinite(effect.low):  # too few seeds, or a confidence sequence that excludes nothing yet
        assert found.verdict == "inconclusive"
        assert not found.p_value <= 0.05
        return False
    assert isfinite(found.p_value)
    assert effect.low <= effect.high
    (low, high), contrary = range_of(finding, effect.name, MATTERS if found.verdict == "negligible" else None)
    inside, outside = low <= effect.low and effect.high <= high, effect.high <= low or effect.low >= high
    if effect.low == effect.high in (low, high):  # no spread at all, and exactly at the threshold
        inside = outside = False
    if finding.held_back and found.verdict == "inconclusive":
        assert found.p_value > 0.05
        return True
    decides = {"supported": inside, "contradicted": inside if contrary else outside, "negligible": inside}
    assert decides.get(found.verdict, not inside and not outside), found
    assert (found.p_value <= 0.05) == (found.verdict != "inconclusive"), found
    for number in (f"{effect.low:.3g}", f"{effect.high:.3g}"):
        assert number in found.reason, found
    return True


@pytest.mark.parametrize("kind", CLAIMS)
def test_verdict_p_value_and_interval_agree(kind):
    assert set(CLAIMS) == set(KINDS) - {"all", "invariance"}
    words = []
    for number in range(8):
        tables = evidence(number)
        for more, looks in (WAYS[0], WAYS[1 + number % 3]):
            (claim,) = read_claims([claimed(kind) | more])
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                (found,) = assess([claim], tables, looks=looks)
            if found.verdict == "not evaluable":
                words.append(found.reason)
            elif agrees(found, claim.find(tables)):
                words.append(found.verdict)
    assert {"inconclusive"} < set(words) & {"supported", "contradicted", "inconclusive"}, words


def test_a_check_without_an_interval_is_shown_as_such():
    """Seeds that agree at one rate leave the curve open there, whatever the mean over all rates."""
    rows = grid(4, lr=[0.01, 0.1])
    rows = rows[(rows["lr"] == 0.01) | (rows["seed"] == 0)].reset_index(drop=True)
    few = rows[(rows["lr"] == 0.1) | (rows["seed"] == 0)].assign(y=1.0)
    given = [
        {"id": "X", "statement": "s", "kind": "curve", "x": "lr", "y": "y", "curve": "1", "tolerance": 0.3}
    ]
    (found,) = assess(read_claims(given), Evidence(few))
    assert (found.verdict, found.effect.name) == ("inconclusive", "mean of y / (1) at lr = 0.01")
    assert not isfinite(found.effect.low)
    assert not isfinite(found.p_value)


def test_a_curve_at_one_value_shows_the_mean_there():
    rows = grid(4, lr=[0.1]).assign(y=[1.0, 1.1, 0.9, 1.05])
    given = [
        {"id": "X", "statement": "s", "kind": "curve", "x": "lr", "y": "y", "curve": "1", "tolerance": 0.3}
    ]
    (found,) = assess(read_claims(given), Evidence(rows))
    assert (found.verdict, found.effect.name) == ("supported", "mean of y / (1) at lr = 0.1")


def test_a_whole_agrees_with_its_parts():
    parts = [claimed(kind) for kind in ("trend", "crossing", "optimum")]
    given = [{"id": "X", "statement": "s", "kind": "all", "claims": parts}]
    given[0]["claims"] = [{k: v for k, v in part.items() if k not in ("id", "statement")} for part in parts]
    words = set()
    for number in range(10):
        (found,) = assess(read_claims(given), evidence(number))
        words.add(found.verdict)
        if found.verdict in ("supported", "contradicted"):
            assert found.p_value <= 0.05
            assert found.effect in [part.effect for part in found.parts]
        elif isfinite(found.p_value):
            alone = any(part.verdict == "contradicted" for part in found.parts)
            assert found.p_value > 0.05 or any(not isfinite(part.p_value) for part in found.parts) or alone
    assert len(words) > 1


def crossing(small, large):
    """A table in which a less b is exactly this at both ends in each of the seeds."""
    rows = grid(len(small), optimizer=["sam", "sgd"], lr=[1.0, 2.0])
    own = np.where(rows["lr"] == 1.0, np.take(small, rows["seed"]), np.take(large, rows["seed"]))
    rows = rows.assign(y=np.where(rows["optimizer"] == "sam", own, 0.0) + 3.0 * rows["seed"])
    claim = {"id": "X", "statement": "s", "kind": "crossing", "x": "lr", "y": "y", "low": "greater", **SIDES}
    return assess(read_claims([claim]), Evidence(rows))[0]


SCATTER = np.array([-1.0, 0.0, 1.0, 0.5, -0.5])


@pytest.mark.parametrize(
    ("small", "large", "verdict", "end"),
    [
        (5.0, -2.0, "supported", "large"),
        (2.0, -5.0, "supported", "small"),
        (5.0, -0.5, "inconclusive", "large"),
        (5.0, 3.0, "contradicted", "large"),
        (-3.0, -9.0, "contradicted", "small"),
        (5.0, 1.1, "contradicted", "large"),
    ],
)
def test_a_crossing_shows_the_end_that_decides_it(small, large, verdict, end):
    """The change between the ends may be clear where the claim is not, and open where it is."""
    found = crossing(small + SCATTER, large + SCATTER[::-1])
    assert found.verdict == verdict
    assert found.effect.name == f"difference in y at {end} lr"
    assert found.effect.value == pytest.approx(large if end == "large" else small)
    assert (found.effect.low <= 0 <= found.effect.high) == (verdict == "inconclusive")
    assert (found.p_value <= 0.05) == (verdict != "inconclusive")
    assert [other.name for other in found.others] == [
        "change of the difference in y from small to large lr",
        f"difference in y at {'small' if end == 'large' else 'large'} lr",
    ]


@pytest.mark.parametrize(("checks", "tail"), [(1, 0.975), (2, 0.975), (4, 0.9875), (10, 0.995)])
def test_of_more_than_two_checks_the_weakest_pays_for_being_picked_on_one_side(checks, tail):
    """Two err on one side as often as one interval does on both."""
    weakest = -1.5 + SCATTER
    error = weakest.std(ddof=1) / np.sqrt(5)
    every = [Check("weakest", student(weakest), 0.0)]
    every += [Check(f"c{i}", student(5.0 + SCATTER), 0.0) for i in range(1, checks)]
    found = Judgement(tuple(every), Rule(0.95), Named("whole", every[0].estimate)).shown()
    assert found.name == "weakest"
    assert found.low == pytest.approx(-1.5 - stats.t.ppf(0.975, 4) * error)
    assert found.high == pytest.approx(-1.5 + stats.t.ppf(tail, 4) * error)


def test_a_shift_that_would_change_a_contradiction_is_that_of_the_interval_shown():
    found = crossing(5.0 + SCATTER, 3.0 + SCATTER)
    assert f"A shift of {found.effect.low:.3g} in the difference in y at large lr would" in found.would_change


def test_a_hump_shows_the_step_that_contradicts():
    rows = grid(5, lr=[1.0, 2.0, 3.0, 4.0])
    means = rows["lr"].map({1.0: 0.0, 2.0: 5.0, 3.0: 2.0, 4.0: 6.0})
    rows = rows.assign(y=means + 0.3 * np.random.default_rng(0).normal(size=len(rows)))
    claim = {"id": "X", "statement": "s", "kind": "trend", "x": "lr", "y": "y", "direction": "rising"}
    (found,) = assess(read_claims([claim]), Evidence(rows))
    assert found.verdict == "contradicted"
    assert found.effect.name == "change of y from lr = 2 to 3"
    assert found.effect.high < 0
    assert found.p_value <= 0.05
    assert found.others[0].low > 0
    assert "in the change of y from lr = 2 to 3 would" in found.would_change


def test_a_difference_that_is_large_alike_at_both_ends_is_not_negligible():
    rows = grid(5, optimizer=["sam", "sgd"], lr=[1.0, 2.0])
    rows = rows.assign(y=5.0 * (rows["optimizer"] == "sam") + 0.1 * np.arange(len(rows)) % 0.7)
    claim = {"id": "X", "statement": "s", "kind": "crossing", "x": "lr", "y": "y", "low": "greater", **SIDES}
    found = assess(read_claims([claim | {"matters": 1.0}]), Evidence(rows))[0]
    assert found.verdict == "contradicted"
    small = rows.assign(y=0.1 * rows["y"])
    assert assess(read_claims([claim | {"matters": 1.0}]), Evidence(small))[0].verdict == "negligible"


def test_a_range_holds_on_both_sides_where_all_checks_are_supported():
    """Near one end of the range the other end of the interval is the corrected one, cut off at the range."""
    values = np.linspace(-1, 1, 4)
    checks = [Check(f"c{i}", student(values + 0.1 + 0.01 * i), -1.7, 1.7) for i in range(5)]
    found = Judgement(tuple(checks), Rule(0.95), Named("whole", checks[0].estimate))
    assert found.word == "supported"
    assert found.shown().low == -1.7 < checks[-1].estimate.interval(0.95)[0]
    assert found.shown().high == checks[-1].estimate.interval(0.95)[1] < 1.7
