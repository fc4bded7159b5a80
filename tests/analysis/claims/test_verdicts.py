"""Conjunctions, the table of verdicts, what would change one, and the order of things."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis.claims import Evidence, assess, read_claims, verdicts_table
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.finding import Check
from sharpscope.analysis.claims.what_would_change import would_change

RATES = [0.01, 0.03, 0.1, 0.3]


def table():
    rows = grid(5, lr=RATES, batch=[100, 5000])
    return rows.assign(
        sharpness=1 / rows["lr"] * np.exp(noise(rows, 0.05)),
        accuracy=0.8 + 0.05 * np.log10(rows["lr"]) + noise(rows, 0.001, 1),
        coin=noise(rows, 1.0, 2),
    )


def part(y, direction, **keys):
    return {"kind": "trend", "x": "lr", "y": y, "direction": direction, "within": ["batch"], **keys}


TRUE, FALSE = part("sharpness", "falling"), part("accuracy", "falling")
OPEN, NONE = part("coin", "rising"), part("nothing", "rising")


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([TRUE, part("accuracy", "rising")], "supported"),
        ([TRUE, OPEN], "inconclusive"),
        ([OPEN, FALSE, NONE], "contradicted"),
        ([TRUE, NONE], "inconclusive"),
        ([NONE, NONE], "not evaluable"),
    ],
)
def test_a_conjunction_holds_where_all_its_parts_do(parts, verdict):
    found = judge(table(), kind="all", claims=parts)
    assert found.verdict == verdict
    assert [p.id for p in found.parts] == [f"X.{i}" for i in range(1, len(parts) + 1)]
    assert found.statement == "It is so."
    if verdict != "supported":
        assert found.reason.startswith("Part X.")


def test_the_conditions_of_a_conjunction_are_its_parts_too():
    found = judge(
        table(), kind="all", where={"batch": 100}, claims=[TRUE, {**TRUE, "where": {"lr": {"min": 0.02}}}]
    )
    assert [p.rows for p in found.parts] == [20, 15]


def test_the_table_has_a_row_per_verdict():
    claims = read_claims(
        [
            {"id": "A", "statement": "a", **TRUE},
            {"id": "B", "statement": "b", "kind": "all", "claims": [TRUE, NONE]},
            {"id": "C", "statement": "c", **NONE},
        ]
    )
    verdicts = assess(claims, Evidence(table()), "laptop")
    every = verdicts_table(verdicts)
    assert every["id"].tolist() == ["A", "B", "B.1", "B.2", "C"]
    assert every["part_of"].tolist() == ["", "", "B", "B", ""]
    found = verdicts_table(verdicts, parts=False)
    assert found["id"].tolist() == ["A", "B", "C"]
    assert found["verdict"].tolist() == ["supported", "inconclusive", "not evaluable"]
    assert (found["scale"] == "laptop").all()
    assert found["value"].dtype == float
    assert 0 < found["low"][0] <= found["value"][0] < found["high"][0] < 1
    assert found["loss_low"][0] < 0.11
    assert list(verdicts_table([]).columns) == list(found.columns)


def test_nothing_depends_on_anything_but_claims_and_rows():
    claims = read_claims([{"id": "A", "statement": "a", **OPEN}, {"id": "B", "statement": "b", **TRUE}])
    rows = table()
    first = verdicts_table(assess(claims, Evidence(rows))).to_csv()
    second = verdicts_table(
        assess(claims[::-1], Evidence(rows.sample(frac=1, random_state=0)))[::-1]
    ).to_csv()
    assert first == second


def test_empty_evidence_is_no_error():
    claims = read_claims([{"id": "A", "statement": "a", **TRUE}])
    for results in (pd.DataFrame(), table()[:0]):
        assert assess(claims, Evidence(results))[0].verdict == "not evaluable"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 1.2, 0.8], "A shift of 0.503 in the effect would"),
        ([1.0, 2.0, -0.6], "24 seeds in all would settle it with a chance of 80 %"),
        ([0.001, 2.0, -2.0], "fewer than 500 seeds would hardly settle it"),
        ([1.0], "At least 2 seeds would"),
    ],
)
def test_what_would_change_it(values, said):
    check = Check("effect", student(np.array(values)), low=0.0)
    assert said in would_change((check,), 0.95, "seed")


def test_what_shows_an_effect_too_small_to_matter_closes_a_claim_as_well():
    check = Check("change", student(np.array([0.001, 0.02, -0.02])), low=0.0)
    within = Check("change", check.estimate, -0.03, 0.03)
    said = would_change((check,), 0.95, "seed", (within,))
    assert said.startswith(
        "The interval of the change reaches beyond what is too small to matter, -0.03 to 0.03:"
    )
    needed = int(re.search(r"(\d+) seeds in all would leave it within", said).group(1))
    spread = 0.02
    truth = np.random.default_rng(0).normal(scale=spread, size=(2000, needed))
    held = np.mean([low > -0.03 and high < 0.03 for low, high in (student(r).interval(0.95) for r in truth)])
    assert held > 0.75
    far = Check("change", student(np.array([1.0, 2.0, -0.6])), low=0.0)  # 24 seeds show it to be above 0
    beyond = Check("change", far.estimate, -0.5, 0.5)
    assert "24 seeds in all would settle it" in would_change((far,), 0.95, "seed", (beyond,))


def test_the_seeds_a_ratio_needs_are_reckoned_where_its_interval_is_straight():
    logs = np.array([4.45, 6.2, 2.7])  # a ratio of 86 between 1.1 and 6600
    ratio = Check("ratio", student(logs).through(np.exp, np.log), low=0.8, high=1.25)
    same = Check("log", student(logs), low=np.log(0.8), high=np.log(1.25))
    sentences = [would_change((check,), 0.95, "seed").partition(":")[2] for check in (ratio, same)]
    assert sentences[0] == sentences[1]
    assert "4 seeds in all" in sentences[0]


def test_the_weakest_part_decides_what_would_change():
    strong, weak = (
        Check(name, student(np.array([v - 0.1, v + 0.1, v])), low=0.0) for name, v in (("s", 9.0), ("w", 2.0))
    )
    margin = weak.estimate.interval(0.95)[0]
    assert f"{margin:.3g} in the w would" in would_change((strong, weak), 0.95, "seed")
    against = Check("t", student(np.array([-5.1, -5.0, -4.9])), low=0.0)
    assert " in the t would" in would_change((strong, against), 0.95, "seed")


def test_tracks_are_columns_beside_the_epoch_and_the_settings():
    runs = table()
    epochs = [1, 5, 9]
    tracks = pd.DataFrame(
        [
            {"run_id": row.run_id, "epoch": epoch, "measure": "lambda_max", "value": row.sharpness * epoch}
            for row in runs.itertuples()
            for epoch in epochs
        ]
    )
    history = pd.DataFrame(
        [
            {"run_id": run, "epoch": e, "lr": 9.0, "train_loss": 1 / e}
            for run in runs["run_id"]
            for e in range(1, 10)
        ]
    )
    wide = Evidence(runs, history, tracks=tracks).table("tracks")
    assert len(wide) == 120
    assert wide["train_loss"].tolist()[:3] == pytest.approx([1, 1 / 5, 1 / 9])
    assert set(wide["lr"]) == set(RATES)
    alone = Evidence(runs, tracks=tracks).table("tracks")
    assert "train_loss" not in alone.columns  # the run's last loss is not the epoch's
    claim = part("lambda_max", "falling", source="tracks") | {"within": ["epoch", "batch"]}
    assert judge(runs, history, tracks=tracks, **claim).verdict == "supported"
    assert judge(runs, **claim).verdict == "not evaluable"
