"""Power: formulas against simulation and against published values."""

import re

import numpy as np
import pytest

from analysis.claims.grids import grid, noise
from sharpscope.analysis.claims import Evidence, Looks, read_claims
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.power import (
    Spread,
    chance_decided,
    seeds_needed,
    spread_from_noise,
    spread_of,
)
from sharpscope.analysis.claims.prospects import prospects, prospects_from_noise

RATES = [0.01, 0.03, 0.1, 0.3]


def test_the_chance_is_that_of_a_simulation():
    values = 1.0 + np.random.default_rng(0).normal(size=(4000, 6))
    decided = np.mean([student(row).interval(0.95)[0] > 0 for row in values])
    assert chance_decided(1.0, Spread(1.0), 6) == pytest.approx(decided, abs=0.02)


def test_the_chance_to_lie_within_a_range_is_that_of_a_simulation():
    """The truth .3 from one end and 1.7 from the other; .8 from both, where both ends can be missed."""
    noise_ = np.random.default_rng(0).normal(size=(4000, 12))
    for nearer, other in ((0.7, 1.7), (0.8, 0.8)):
        ends = [student(row).interval(0.95) for row in noise_]
        held = np.mean([-nearer < low and high < other for low, high in ends])
        assert chance_decided(nearer, Spread(1.0), 12, other=other) == pytest.approx(held, abs=0.02)
    assert chance_decided(0.1, Spread(1.0), 3, other=0.1) == 0.0
    needed = seeds_needed(0.8, Spread(1.0), other=0.8)
    assert needed > seeds_needed(0.8, Spread(1.0))
    assert chance_decided(0.8, Spread(1.0), needed, other=0.8) >= 0.8


def test_a_paired_test_of_one_standard_deviation_needs_ten_pairs():
    # Cohen's d = 1, α = .05, power .80: ten pairs (G*Power; two-sided t test of matched pairs)
    assert seeds_needed(1.0, Spread(1.0)) == 10
    assert seeds_needed(0.5, Spread(1.0)) == 34
    assert seeds_needed(0.01, Spread(1.0)) is None
    assert chance_decided(1.0, Spread(1.0), 1) == 0


def test_the_spread_of_an_estimate_is_that_of_one_seed():
    values = np.array([1.0, 2.0, 4.0, 4.5])
    spread = spread_of(student(values))
    assert spread is not None
    assert (spread.sd, spread.slope) == pytest.approx((values.std(ddof=1), 1))
    assert spread_of(student(values[:1])) is None


def table(effect, seeds=40):
    rows = grid(seeds, lr=RATES)
    return rows.assign(test_accuracy=0.8 + effect * np.log10(rows["lr"]) + noise(rows, 0.01))


def claims(**more):
    rising = {"kind": "trend", "x": "lr", "y": "test_accuracy", "direction": "rising"}
    return read_claims([{"id": "A", "statement": "It rises.", **rising, **more}])


def test_prospects_grow_with_seeds_and_effect_and_shrink_with_looks():
    found = prospects(claims(), Evidence(table(0.005)), [3, 5, 10])
    assert found["seeds"].tolist() == [3, 5, 10]
    assert found["chance"].is_monotonic_increasing
    assert (prospects(claims(), Evidence(table(0.01)), [3, 5, 10])["chance"] > found["chance"]).all()
    planned = prospects(claims(), Evidence(table(0.005)), [3, 5, 10], looks=Looks((3, 5, 10)))
    assert (planned["chance"] < found["chance"]).all()
    assert planned["needed"][0] > found["needed"][0]
    needed = int(found["needed"][0])
    either_side = prospects(claims(), Evidence(table(0.005)), [needed - 1, needed])["chance"]
    assert either_side[0] < 0.8 <= either_side[1]


def test_a_conjunction_is_as_likely_as_its_least_likely_part():
    part = {"kind": "trend", "x": "lr", "y": "test_accuracy", "direction": "rising"}
    weak = part | {"y": "other"}
    rows = table(0.02).assign(other=lambda t: 0.5 + 0.015 * np.log10(t["lr"]) + noise(t, 0.01, 5))
    whole = read_claims([{"id": "A", "statement": "Both.", "kind": "all", "claims": [part, weak]}])
    alone = [read_claims([{"id": "A", "statement": "One.", **one}]) for one in (part, weak)]
    chances = [prospects(one, Evidence(rows), [5])["chance"][0] for one in alone]
    assert prospects(whole, Evidence(rows), [5])["chance"][0] == pytest.approx(min(chances))


def test_what_earlier_runs_do_not_tell_is_noted():
    found = prospects(claims(), Evidence(table(0.01, seeds=1)), [3])
    assert np.isnan(found["chance"][0])
    assert "say nothing" in found["note"][0]
    assert "no column" in prospects(claims(where={"optimizer": "sam"}), Evidence(table(0.01)), [3])["note"][0]


def test_a_part_whose_error_is_not_foreseen_leaves_the_whole_unforeseen_and_not_beyond_reach():
    steadier = {"kind": "variance_ratio", "y": "test_accuracy", "a": {"lr": 0.01}, "b": {"lr": 0.1}}
    rising = {"kind": "trend", "x": "lr", "y": "test_accuracy", "direction": "rising"}
    parts = [rising, {**steadier, "direction": "less"}]
    whole = read_claims([{"id": "A", "statement": "Both.", "kind": "all", "claims": parts}])
    found = prospects(whole, Evidence(table(0.02, seeds=4)), [5])
    assert found[["chance", "needed"]].isna().all(axis=None)
    assert "nothing of how the ratio of the standard deviations of test_accuracy varies" in found["note"][0]


def test_a_claim_that_takes_settings_for_a_sample_is_not_promised_to_be_decided_by_seeds():
    rows = grid(3, lr=[0.01 * 1.3**i for i in range(12)])
    rows = rows.assign(
        gap=np.log(rows["lr"]) + noise(rows, 0.5), lambda_max=1 / rows["lr"] + noise(rows, 9.0, 5)
    )
    going = {"kind": "correlation", "x": "lambda_max", "y": "gap", "sign": -1}
    found = prospects(read_claims([{"id": "A", "statement": "They go.", **going}]), Evidence(rows), [3, 300])
    assert found[["chance", "needed"]].isna().all(axis=None)
    assert re.fullmatch(r"settings decide it, 12 here, and not seeds; \d+ would .* of 80 %", found["note"][0])
    alone = grid(27, lr=[0.1])
    alone = alone.assign(lambda_max=noise(alone, 1.0), gap=lambda t: noise(t, 1.0, 5) - t["lambda_max"])
    of_seeds = prospects(read_claims([{"id": "A", "statement": "They go.", **going}]), Evidence(alone), [27])
    assert of_seeds["note"][0] == ""
    assert of_seeds["chance"].notna().all()


def from_noise(given, seeds, noise=1.0, effect=2.0, settings=None):
    settings = grid(1, lr=[1.0, 10.0, 100.0]) if settings is None else settings
    return prospects_from_noise(given, settings, {"": noise}, {"": effect} if effect else {}, seeds)


def test_from_an_assumed_noise():
    needed = int(from_noise(claims(), [3])["needed"][0])
    before, there = from_noise(claims(), [needed - 1, needed])["chance"]
    assert before < 0.8 <= there
    assert there == pytest.approx(chance_decided(2.0, spread_from_noise(1.0, [0.0, 1.0, 2.0]), needed))
    bound = read_claims([{"id": "B", "statement": "b", "kind": "bound", "low_side": "x", "high_side": "y"}])
    unknown = from_noise(bound, [5])
    assert unknown[["chance", "needed"]].isna().all(axis=None)
    assert "does not follow from the noise" in unknown["note"][0]


@pytest.mark.parametrize(
    "claim",
    [
        {"kind": "basin_width", "a": {"lr": 1.0}, "b": {"lr": 10.0}, "direction": "wider"},
        {"kind": "curve_distance", "y": ["a", "b"], "baseline": {"lr": 1}, "a": {"lr": 10}, "b": {"lr": 100}},
    ],
)
def test_a_width_or_a_distance_of_curves_has_no_error_that_follows_from_the_noise_of_one_column(claim):
    unknown = from_noise(read_claims([{"id": "W", "statement": "w", **claim}]), [5])
    assert "does not follow from the noise" in unknown["note"][0]


def test_what_matters_to_a_claim_is_the_effect_that_is_looked_for_and_a_whole_needs_every_part():
    part = {"kind": "trend", "x": "lr", "y": "test_accuracy", "direction": "rising"}
    given = read_claims([{"id": "A", "statement": "a", "matters": 0.02, **part}])
    assert from_noise(given, [5], 0.01, None)["chance"][0] == pytest.approx(
        from_noise(given, [5], 0.01, 0.02)["chance"][0]
    )
    assert "names none that matters" in from_noise(claims(), [5], 0.01, None)["note"][0]
    wide = {**part, "matters": 0.02, "where": {"lr": {"max": 10.0}}}
    whole = read_claims(
        [{"id": "A", "statement": "a", "kind": "all", "claims": [{**part, "matters": 0.02}, wide]}]
    )
    alone = [from_noise(read_claims([{"id": "A", "statement": "a", **p}]), [5], 0.01, None) for p in (wide,)]
    assert from_noise(whole, [5], 0.01, None)["chance"][0] == pytest.approx(alone[0]["chance"][0])
    one_rate = grid(1, lr=[0.1])
    assert (
        "there are fewer than two values of lr in the grid"
        in from_noise(given, [5], settings=one_rate)["note"][0]
    )
    elsewhere = read_claims([{"id": "A", "statement": "a", **part, "where": {"rho": 0.1}}])
    assert "in the grid" in from_noise(elsewhere, [5])["note"][0]


@pytest.mark.parametrize(("by", "second"), [("batch", [0.0, 1.0, 2.0]), ("optimizer", [0.0, 1.0])])
def test_an_interaction_has_the_error_of_its_own_design(by, second):
    """By least squares on the grid itself, for one seed of unit noise."""
    settings = grid(1, lr=[1.0, 10.0, 100.0, 1000.0], batch=[1, 10, 100], optimizer=["sgd", "sam"])
    alone = settings[settings["optimizer"] == "sgd"] if by == "batch" else settings[settings["batch"] == 1]
    u, v = np.meshgrid(np.arange(4.0), second, indexing="ij")
    columns = [u.ravel(), (u * v).ravel(), *(v.ravel() == value for value in second)]
    of_runs = np.linalg.pinv(np.stack(columns, axis=1))[1] * 3.0 * max(second)  # (runs,)
    sd = float(np.sqrt((of_runs**2).sum()))
    claim = {"kind": "interaction", "x": "lr", "y": "accuracy", "by": by, "direction": "falling"}
    given = read_claims([{"id": "A", "statement": "a", **claim}])
    assert from_noise(given, [4], 1.0, 3.0, alone)["chance"][0] == pytest.approx(
        chance_decided(3.0, Spread(sd, 3 * len(second)), 4)
    )
    assert (
        "two values are compared" in from_noise(given, [4], settings=alone.assign(**{by: "one"}))["note"][0]
    )


@pytest.mark.parametrize("whole", [False, True])
def test_a_claim_is_also_decided_by_an_effect_too_small_to_matter(whole):
    rows = grid(4, lr=[0.01, 0.1, 1.0])
    rows["accuracy"] = 0.5 + np.where(
        rows["lr"] == 1.0, 0.012 * (-1.0) ** rows["seed"], 0.0
    )  # nothing on average

    def claimed(**keys):
        part = {"kind": "trend", "x": "lr", "y": "accuracy", "direction": "rising", **keys}
        sure = {"kind": "trend", "x": "lr", "y": "lr", "direction": "rising"}
        claim = {"kind": "all", "claims": [sure, part]} if whole else part
        return read_claims([{"id": "A", "statement": "a", **claim}])

    found = prospects(claimed(matters=0.015), Evidence(rows), [4, 8, 16])
    assert list(found["chance"]) == sorted(found["chance"])
    assert found["chance"].iloc[-1] > 0.9
    assert 4 < found["needed"][0] <= 16
    assert prospects(claimed(), Evidence(rows), [16])["chance"][0] < 0.5
