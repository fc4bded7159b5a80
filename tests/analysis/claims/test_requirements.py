"""Networks that did not train are not judged."""

import numpy as np
import pytest

from analysis.claims.grids import grid, noise
from sharpscope.analysis.claims import Evidence, assess, check_requires, read_claims
from sharpscope.analysis.claims.requirements import missed
from sharpscope.errors import InputError


def table(untrained=0, seeds=5):
    rows = grid(seeds, lr=[0.01, 0.1, 1.0, 10.0]).assign(constant_loss=np.log(10), train_accuracy=0.99)
    rows["test_accuracy"] = 0.5 + 0.1 * np.log10(rows["lr"]) + noise(rows, 0.01)
    rows.loc[: untrained - 1, ["train_loss", "train_accuracy"]] = [2.3, 0.1]
    return rows


def judge(rows, experiment=None, history=None, **keys):
    claim = {
        "id": "X",
        "statement": "x",
        "kind": "trend",
        "x": "lr",
        "y": "test_accuracy",
        "direction": "rising",
    }
    evidence = Evidence(rows) if history is None else Evidence(rows, history)
    return assess(read_claims([claim | keys]), evidence, requires=experiment)[0]


@pytest.mark.parametrize(
    ("untrained", "word"), [(0, "supported"), (2, "supported"), (3, "not evaluable (untrained)")]
)
def test_more_than_one_in_ten_is_too_many(untrained, word):
    """Of twenty runs two may miss it."""
    for keys in (
        {},
        {"requires": {"train_accuracy": {"min": 0.95}}},
        {"requires": {"train_loss": {"max": 0.5}}},
    ):
        found = judge(table(untrained), **keys)
        assert found.verdict == word
    assert judge(table(untrained), {"train_accuracy": {"min": 0.95}}).verdict == word
    if untrained:
        assert f"{untrained} of 20 runs untrained" in found.caveat


def test_what_was_found_is_shown_and_has_no_p_value():
    found = judge(table(3), requires={"train_accuracy": {"min": 0.95}})
    assert found.effect is not None
    assert np.isnan(found.p_value)
    assert np.isnan(found.q_value)
    assert found.reason.startswith("3 of 20 runs compared miss train_accuracy at least 0.95")
    assert "trained would" in found.would_change


def test_a_claims_own_requirement_goes_before_the_experiments_and_nothing_may_be_required():
    strict = {"train_accuracy": {"min": 0.999}}
    assert judge(table(), strict).verdict == "not evaluable (untrained)"
    assert judge(table(), strict, requires={"train_accuracy": {"min": 0.9}}).verdict == "supported"
    assert judge(table(20), strict, requires={}).verdict != "not evaluable (untrained)"
    assert judge(table(20), {}).verdict != "not evaluable (untrained)"


def test_only_the_runs_compared_count():
    rows = table(5)  # all of them at the smallest rate
    assert judge(rows).verdict == "not evaluable (untrained)"
    assert judge(rows, where={"lr": {"min": 0.05}}).verdict == "supported"


def test_a_parts_requirement_is_the_wholes_where_it_has_none():
    part = {"kind": "trend", "x": "lr", "y": "test_accuracy", "direction": "rising"}
    lenient = part | {"requires": {"train_accuracy": {"min": 0.5}}}
    claim = {"id": "X", "statement": "x", "kind": "all", "requires": {"train_accuracy": {"min": 0.999}}}
    (both,) = assess(read_claims([claim | {"claims": [part, lenient]}]), Evidence(table()))
    assert [p.verdict for p in both.parts] == ["not evaluable (untrained)", "supported"]
    assert both.verdict == "not evaluable (untrained)"


def test_epochs_are_judged_by_what_their_runs_reached():
    rows = table()
    history = rows[["run_id"]].merge(np_epochs(), how="cross")
    history["test_accuracy"] = history["run_id"].map(rows.set_index("run_id")["test_accuracy"])
    history["train_loss"] = 2.3 / history["epoch"]
    found = judge(rows, history=history, source="history", within=["epoch"])
    assert found.verdict == "supported"  # the first epoch's loss is that of no training at all


def np_epochs():
    import pandas as pd

    return pd.DataFrame({"epoch": [1, 2, 20]})


def test_identities_are_asked_for_no_training():
    (claim,) = read_claims([{"id": "X", "statement": "x", "kind": "invariance", "y": "change"}])
    assert assess([claim], Evidence(table(20).assign(change=0.0)))[0].verdict == "supported"


def test_a_missing_column_or_value_is_not_taken_for_training():
    found = judge(table(), requires={"margin": {"min": 1}})
    assert (found.verdict, "'margin'" in found.reason) == ("not evaluable", True)
    rows = table().assign(train_accuracy=np.nan)
    assert judge(rows, requires={"train_accuracy": {"min": 0.5}}).verdict == "not evaluable (untrained)"
    assert judge(table(20).drop(columns="constant_loss")).verdict != "not evaluable (untrained)"


@pytest.mark.parametrize(
    ("test", "reached", "met"),
    [
        ({"min": 0.5}, 0.5, True),
        ({"max": 0.5}, 0.5, True),
        ({"below": 0.5}, 0.5, False),
        ({"above": 0.5}, 0.5, False),
        ({"below": "other"}, 0.96, False),  # a column is to be left clearly behind
        ({"below": "other"}, 0.94, True),
        ({"above": "other"}, 1.04, False),
        ({"above": "other"}, 1.06, True),
        ({"max": "other*2"}, 2.0, True),
        ({"min": 0.2, "max": 0.3}, 0.4, False),
        ({"is": "plateau"}, "plateau", True),
        ({"is": "plateau"}, "epochs", False),
        ({"is": ["plateau", "epochs"]}, "epochs", True),
    ],
)
def test_bounds(test, reached, met):
    rows = table().assign(reached=reached, other=1.0)
    assert (missed(rows, {"reached": test}) == "") == met


@pytest.mark.parametrize(
    "given",
    [
        3,
        {"a": 1},
        {"a": {}},
        {"a": {"atleast": 1}},
        {"a": {"min": True}},
        {"a": {"min": float("nan")}},
        {"a": {"min": "2 +"}},
        {"a": {"is": 1}},
        {"a": {"is": []}},
    ],
)
def test_requirements_that_cannot_be_read(given):
    with pytest.raises(InputError):
        check_requires(given)
