"""Tables as they come: unequal seeds, missing runs, ties, no spread, an outlier, NaN, thousands of rows."""

import warnings
from math import isfinite, nan

import numpy as np
import pandas as pd
import pytest

from analysis.claims.grids import grid
from sharpscope.analysis.claims import KINDS, Evidence, Looks, assess, read_claims, verdicts_table
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.verdict import Verdict

SIDES = {"a": {"optimizer": "sam"}, "b": {"optimizer": "sgd"}}
CLAIMS = {
    "trend": {"x": "lr", "y": "y", "direction": "rising", "within": ["optimizer"]},
    "flat": {"x": "lr", "y": "y", "margin": 0.5, "relative": False, "within": ["optimizer"]},
    "paired": {"y": "y", "direction": "greater", "match": ["seed", "lr"], **SIDES},
    "curve": {"x": "lr", "y": "positive", "curve": "2/lr", "tolerance": 0.3},
    "matched": {"y": "y", "match_on": "positive", "direction": "greater", **SIDES},
    "interaction": {"x": "lr", "y": "y", "by": "batch_size", "direction": "rising"},
    "crossing": {"x": "lr", "y": "y", "low": "greater", "match": ["seed"], **SIDES},
    "optimum": {"x": "lr", "y": "y", "within": ["optimizer"]},
    "variance_ratio": {"y": "y", "direction": "less", "within": ["lr"], **SIDES},
    "correlation": {"x": "positive", "y": "y", "sign": 1},
    "invariance": {"y": "y"},
    "bound": {"low_side": "positive", "high_side": "other"},
    "ratio_law": {"y": "positive", "margin": 0.1},
    "all": {"claims": [{"kind": "trend", "x": "lr", "y": "y", "direction": "rising"}] * 3},
}


def table(seeds=4):
    rows = grid(seeds, lr=[0.01, 0.1, 1.0], optimizer=["sam", "sgd"])
    draw = np.random.default_rng(1)
    rows["batch_size"] = np.where(rows["optimizer"] == "sam", 32, 128)
    rows["y"] = np.log10(rows["lr"]) + draw.normal(size=len(rows))
    return rows.assign(
        positive=np.exp(draw.normal(size=len(rows))), other=np.exp(draw.normal(size=len(rows)))
    )


def holed(rows, share, seed=0):
    return rows[np.random.default_rng(seed).uniform(size=len(rows)) > share]


def copied(of_one, seeds):
    return pd.concat(
        [of_one.assign(seed=seed, run_id=of_one["run_id"] + f"-{seed}") for seed in range(seeds)],
        ignore_index=True,
    )


SPOILED = {
    "as it is": lambda t: t,
    "seeds of unequal number": lambda t: t[(t["seed"] < 2) | (t["lr"] < 0.5)],
    "a third of the runs missing": lambda t: holed(t, 0.33),
    "two thirds of the runs missing": lambda t: holed(t, 0.67),
    "one run": lambda t: t.head(1),
    "two runs": lambda t: t.head(2),
    "one seed": lambda t: t[t["seed"] == 0],
    "two seeds": lambda t: t[t["seed"] < 2],
    "one setting": lambda t: t[t["lr"] == 0.1],
    "one side": lambda t: t[t["optimizer"] == "sam"],
    "ties": lambda t: t.assign(y=t["y"].round(), positive=t["positive"].round() + 1),
    "constant": lambda t: t.assign(y=0.3, positive=2.0, other=2.0),
    "constant within seeds": lambda t: t.assign(y=0.1 * t["seed"], positive=1 + 0.1 * t["seed"]),
    "no spread over seeds": lambda t: t.assign(y=np.log10(t["lr"]), positive=1 / t["lr"], other=2 / t["lr"]),
    "an outlier": lambda t: t.assign(**{n: t[n].mask(t.index == 5, 1e9) for n in ("y", "positive")}),
    "huge": lambda t: t.assign(y=t["y"] * 1e150, positive=t["positive"] * 1e150),
    "tiny": lambda t: t.assign(y=t["y"] * 1e-150, positive=t["positive"] * 1e-150),
    "too large to square": lambda t: t.assign(y=t["y"] * 1e300, positive=t["positive"] * 1e300, other=1e-300),
    "too small to square": lambda t: t.assign(
        y=t["y"] * 1e-300, positive=t["positive"] * 1e-300, other=1e300
    ),
    "one enormous value": lambda t: t.assign(
        **{n: t[n].mask(t.index == 5, 1e300) for n in ("y", "positive")}
    ),
    "the largest number": lambda t: t.assign(y=1.7e308, positive=1.7e308, other=5e-324),
    "slopes of their own": lambda t: t.assign(
        y=(t["seed"] - 1.5) * np.log10(t["lr"]), positive=t["lr"] ** t["seed"]
    ),
    "two seeds alike": lambda t: copied(t[t["seed"] == 0], 2),
    "four seeds alike": lambda t: copied(t[t["seed"] == 0], 4),
    "two of three seeds alike": lambda t: pd.concat(
        [copied(t[t["seed"] == 0], 2), t[t["seed"] == 2]], ignore_index=True
    ),
    "one seed lacks a setting": lambda t: t[(t["seed"] != 1) | (t["lr"] != 0.1)],
    "ties everywhere": lambda t: t.assign(
        y=(t["y"] > 0) * 1.0, positive=1.0 + (t["positive"] > 1), other=1.0
    ),
    "forty settings": lambda t: pd.concat(
        [
            t.assign(
                lr=t["lr"] * 1.1**i, run_id=t["run_id"] + f"-{i}", configuration=t["configuration"] + f"-{i}"
            )
            for i in range(14)
        ],
        ignore_index=True,
    ),
    "disjoint seeds": lambda t: t[(t["lr"] < 0.05) == (t["seed"] < 2)],
    "a seed for each run": lambda t: t.assign(seed=np.arange(len(t))),
    "some NaN and infinity": lambda t: t.assign(
        y=t["y"].mask(t.index % 5 == 0), positive=t["positive"].mask(t.index % 7 == 0, np.inf)
    ),
    "NaN": lambda t: t.assign(y=nan, positive=nan),
    "negative and zero": lambda t: t.assign(positive=t["y"], other=0.0),
    "text": lambda t: t.assign(y="high", positive="low"),
    "half diverged": lambda t: t.assign(status=np.where(t.index % 2, "diverged", "finished")),
    "runs of one number": lambda t: t.assign(run_id="r0"),
    "seeds by name": lambda t: t.assign(seed="s" + t["seed"].astype(str)),
    "no training loss": lambda t: t.drop(columns=["train_loss", "train_accuracy"]),
    "empty": lambda t: t.head(0),
    "no columns": lambda t: pd.DataFrame(),
    "thousands of rows": lambda t: pd.concat(
        [t.assign(seed=t["seed"] + 10 * i, run_id=t["run_id"] + f"-{i}") for i in range(50)],
        ignore_index=True,
    ),
}


def verdicts(rows, kind, looks=None):
    claim = {"id": "X", "statement": "It is so.", "kind": kind, **CLAIMS[kind]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return assess(read_claims([claim]), Evidence(rows), looks=looks)


def consistent(found: Verdict) -> None:
    """What must hold of any verdict on any table."""
    assert found.reason
    assert not isfinite(found.p_value) or 0 <= found.p_value <= 1
    effect = found.effect
    if effect is not None and isfinite(effect.low):
        assert effect.low <= effect.value * (1 + 1e-9 * np.sign(effect.value)) + 1e-300
        assert effect.value * (1 - 1e-9 * np.sign(effect.value)) - 1e-300 <= effect.high
    if found.verdict in ("supported", "contradicted") and isfinite(found.p_value):
        assert found.p_value <= 0.05
    if found.verdict == "inconclusive" and isfinite(found.p_value) and not found.parts:
        assert found.p_value > 0.05 or "End to end" in found.reason
    if found.verdict.startswith("not evaluable"):
        assert not isfinite(found.p_value)
    for part in found.parts:
        consistent(part)


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_every_kind_has_a_verdict_on_every_table(spoil):
    rows = spoil(table(8 if "missing" in str(spoil) else 4))
    assert set(CLAIMS) == set(KINDS) - {"curve_distance", "basin_width"}
    planned, unplanned = Looks((3, 8), (3,)), Looks((3,), (3, 4))
    turn = list(SPOILED.values()).index(spoil)
    for number, kind in enumerate(
        CLAIMS
    ):  # of the two looks each table takes the one that its neighbours do not
        for looks in (None, planned if (turn + number) % 2 else unplanned):
            found = verdicts(rows, kind, looks)
            consistent(found[0])
            assert len(verdicts_table(found)) == 1 + len(found[0].parts)


@pytest.mark.parametrize("name", ["too large to square", "too small to square", "one enormous value"])
def test_numbers_whose_squares_are_none_are_refused_in_a_sentence(name):
    """1e-300 squared is zero: without the guard such noise is none, and the claim certain."""
    (found,) = verdicts(SPOILED[name](table()), "paired")
    assert found.verdict == "not evaluable"
    assert "give it in another unit" in found.reason


@pytest.mark.parametrize(
    "name",
    [
        "as it is",
        "a third of the runs missing",
        "ties",
        "an outlier",
        "two seeds",
        "seeds of unequal number",
    ],
)
@pytest.mark.parametrize(
    ("kind", "reverse"),
    [
        ("trend", {"direction": "falling"}),
        ("paired", {"direction": "less"}),
        ("matched", {"direction": "less"}),
        ("interaction", {"direction": "falling"}),
        ("correlation", {"sign": -1}),
    ],
)
def test_the_opposite_claim_mirrors(name, kind, reverse):
    rows = SPOILED[name](table())
    claim = {"id": "X", "statement": "It is so.", "kind": kind, **CLAIMS[kind]}
    found, other, mirrored = (
        assess(read_claims([given]), Evidence(values))[0]
        for given, values in (
            (claim, rows),
            (claim | reverse, rows),
            (claim | reverse, rows.assign(y=-rows["y"])),
        )
    )
    opposite = {"supported": "contradicted", "contradicted": "supported"}
    if kind != "trend":  # a hump contradicts both ways
        assert other.verdict == opposite.get(found.verdict, found.verdict)
        assert other.p_value == pytest.approx(found.p_value, rel=1e-9, nan_ok=True)
    assert other.effect == found.effect
    assert mirrored.verdict == found.verdict
    assert mirrored.p_value == pytest.approx(found.p_value, rel=1e-6, nan_ok=True)
    if found.effect is not None and mirrored.effect is not None:
        ends = [-mirrored.effect.high, -mirrored.effect.low]
        assert [found.effect.low, found.effect.high] == pytest.approx(ends, rel=1e-6, nan_ok=True)


def test_sides_exchanged_mirror():
    rows = table(9)
    for kind in ("paired", "variance_ratio", "crossing", "matched"):
        claim = {"id": "X", "statement": "It is so.", "kind": kind, **CLAIMS[kind]}
        turned = claim | {"a": SIDES["b"], "b": SIDES["a"]}
        key = "low" if kind == "crossing" else "direction"
        turned |= {key: "less" if claim[key] == "greater" else "greater"}
        found, other = (assess(read_claims([given]), Evidence(rows))[0] for given in (claim, turned))
        assert found.verdict == other.verdict
        assert found.p_value == pytest.approx(other.p_value, rel=1e-6)


@pytest.mark.parametrize("name", ["two seeds alike", "four seeds alike"])
def test_seeds_that_are_copies_of_one_another_decide_nothing(name):
    """With their spread of zero the claim would be certain, and so would its opposite on other noise."""
    said = 0
    for kind in set(CLAIMS) - {
        "invariance",
        "correlation",
        "bound",
    }:  # these rest on configurations, or on none
        (found,) = verdicts(SPOILED[name](table()), kind)
        assert found.verdict in ("inconclusive", "not evaluable"), kind
        assert not isfinite(found.p_value), kind
        said += "the same value to the last digit" in found.reason
        if found.verdict == "inconclusive" and kind not in ("variance_ratio", "all"):
            assert "alike" in found.caveat, kind
            assert any("if they are copies, they count as one" in text for text in found.confounds), kind
    assert said > 7
    (pair,) = verdicts(SPOILED["two of three seeds alike"](table()), "trend")
    assert "seeds 0, 1 alike" in pair.caveat


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
def test_rounded_values_that_agree_by_chance_decide_nothing(seeds):
    """Differences of values that are rounded to their own standard deviation agree in 19 of 100 pairs of seeds."""
    draw = np.random.default_rng(seeds)
    values = draw.normal(0.0, 1.0, (1500, seeds, 2)).round()
    found = [student(one[:, 0] - one[:, 1]) for one in values]
    wrong = [2 * min(one.below(0.0), one.above(0.0)) <= 0.05 for one in found if one.confidence is not None]
    assert sum(wrong) / len(values) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)


def test_configurations_none_of_which_makes_a_difference_leave_a_doubt():
    """Leaving out any of six gives the same τ of .6, which is no certainty: its exact p-value is .14."""
    rows = grid(1, setting=[1, 2, 3, 4, 5, 6]).assign(x=[1, 2, 3, 4, 5, 6], y=[2, 1, 4, 3, 6, 5])
    claim = {"id": "X", "statement": "s", "kind": "correlation", "x": "x", "y": "y", "sign": 1}
    (found,) = assess(read_claims([claim]), Evidence(rows))
    assert found.verdict == "inconclusive"
    assert found.effect.value == pytest.approx(0.6)
    assert found.p_value > 0.1


def test_one_outlier_among_many_seeds_does_not_decide():
    rows = grid(12, optimizer=["sam", "sgd"])
    y = np.where((rows["seed"] == 3) & (rows["optimizer"] == "sam"), 1e6, 0.0) + rows["seed"] % 5
    claim = {"id": "X", "statement": "s", "kind": "paired", "y": "y", "direction": "greater", **SIDES}
    (found,) = assess(read_claims([claim]), Evidence(rows.assign(y=y)))
    assert found.verdict == "inconclusive"
