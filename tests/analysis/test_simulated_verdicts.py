"""A reduced run of benchmarks/verdicts.py: every kind holds its level, and the page shows what was computed."""

import importlib
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

with (
    pytest.MonkeyPatch.context() as path
):  # for good it would hide the tests' own problems.py and sweep package
    path.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    P = importlib.import_module("verdicts_page")
    V = importlib.import_module("verdicts")
STORED = json.loads((ROOT / "benchmarks" / "verdicts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", V.KINDS)
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_intervals_hold_and_true_nulls_are_decided_once_in_twenty(kind, seeds):
    """Forty tables each of four situations: 95 % of 160 within four standard errors."""
    covered, decided = [], []
    for index, (noise, shared) in enumerate((n, s) for n in V.NOISES for s in (0.0, 1.0)):
        draw = V.Draw(np.random.default_rng([99, seeds, index]), noise, shared)
        for _ in range(40):
            outcome = V.KINDS[kind](draw, seeds)
            decided.append(outcome.decided)
            if all(estimate.confidence is not None for estimate, _ in outcome.estimates):
                covered += outcome.covered()
    assert not covered or np.mean(covered) > 0.88
    assert np.mean(decided) < 0.12
    assert bool(covered) == (STORED["coverage"][kind][str(seeds)] is not None)


def test_what_was_stored_holds():
    """The full run: 93 to 97.5 % where there is an interval, up to 98 from two seeds, which are doubted more; of true
    nulls one in twenty, up to simulation error."""
    assert list(STORED["coverage"]) == list(V.KINDS)
    assert list(STORED["power_of_kinds"]) == list(V.EFFECTS)
    for kind, row in STORED["coverage"].items():
        error = 3 * np.sqrt(0.05 * 0.95 / STORED["repetitions"]["coverage"][kind])
        cells = [*row.items(), *STORED["first_seeds"].get(kind, {}).items()]
        for seeds, cell in cells:
            if cell is None:
                continue
            most = 0.98 if seeds == "2" else 0.975
            assert 0.93 <= cell["low"] <= cell["high"] <= most, kind
            if kind != "optimum, nothing changes anywhere":  # as docs/claims.md says
                assert cell.get("deciding", 0.0) <= most, kind
            assert cell["wrong"] <= 0.05 + error, kind
    unequal = STORED["unequal_noise"]
    least = {"2": 0.86, "3": 0.89, "5": 0.90, "10": 0.93}  # as docs/claims.md says
    assert all(row[k][0] >= share for row in unequal["judged"].values() for k, share in least.items())
    slopes = STORED["random_slopes"]
    assert all(share >= 0.93 for row in ("3, 0.5", "3, 1") for share in slopes[row].values())
    assert all(share >= 0.90 for share in slopes["3, 2"].values())
    assert all(row[k] >= 0.93 for row in slopes.values() for k in ("10", "20"))
    power = STORED["power"]["trend"]
    assert [power["3"] >= 0.40, power["5"] >= 0.75, power["10"] >= 0.95] == [True] * 3
    # The intervals of random slopes are too narrow with few seeds, and no others decide as much.
    assert all(power[k] > STORED["best_power"][k] - 0.02 for k in ("3", "5"))
    ladder = list(power.values())
    assert all(later > earlier - 0.01 for earlier, later in pairwise(ladder))
    for kind, rows in STORED["power_of_kinds"].items():
        error = 3 * np.sqrt(0.5 / STORED["repetitions"]["power_of_kinds"][kind])  # of a difference of shares
        for row in rows.values():
            assert all(later > earlier - error for earlier, later in pairwise(row.values())), kind
            # The configurations of a correlation are the sample, and twelve remain twelve.
            assert max(row.values()) > (0.7 if kind == "correlation" else 0.9), kind
    error = 3 * np.sqrt(
        0.05 * 0.95 / min(n for part in STORED["repetitions"].values() for n in part.values())
    )
    assert all(row["decided"] <= 0.05 + error for row in STORED["conjunctions"].values())
    assert all(row["planned"] <= 0.05 + error for row in STORED["looks"]["wrong"].values())
    assert all(row["sequence"] <= 0.05 for row in STORED["unplanned"]["wrong"].values())
    assert all(row[shape] <= 0.07 for row in STORED["humps"].values() for shape in ("hump", "line", "step"))


def test_the_page_shows_what_was_computed():
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert P.renew(page, STORED) == page
    assert all(f"<!-- {name} -->" in page for name in P.tables(STORED))


def test_more_seeds_give_a_trend_more_power():
    found = V.power(60)["trend"]
    assert found["3"] > 0.25
    assert found["10"] > 0.85


def test_a_planned_sequence_decides_few_true_nulls_and_a_naive_one_many():
    wrong = V.looks(60)["wrong"]
    assert np.mean([row["planned"] for row in wrong.values()]) < 0.10
    assert np.mean([row["naive"] for row in wrong.values()]) > 0.07
