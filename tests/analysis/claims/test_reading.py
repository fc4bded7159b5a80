"""What is wrong with a claim is said in one sentence that names the claim and the key."""

import pytest
from pydantic import TypeAdapter

from sharpscope.analysis.claims import KINDS, Claim, read_claims
from sharpscope.errors import InputError

TREND = {"kind": "trend", "x": "lr", "y": "gap", "direction": "rising"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (3, "claim 1 must be a table of keys"),
        ({"statement": "s", **TREND}, "id is missing"),
        ({"id": "K1", **TREND}, "claim 'K1': statement is missing"),
        ({"id": "K1", "statement": "s"}, "kind must be one of trend, flat.*missing"),
        ({"id": "K1", "statement": "s", **TREND, "kind": ["trend"]}, "kind must be one of"),
        (
            {"id": "K1", "statement": "s", **TREND, "direction": "up"},
            "direction must be 'rising' or 'falling'",
        ),
        ({"id": "K1", "statement": "s", **TREND, "withn": ["lr"]}, "withn .* perhaps within is meant"),
        ({"id": "K1", "statement": "s", **TREND, "y": "gap/"}, "y: an expression holds"),
        ({"id": "K1", "statement": "s", **TREND, "where": {"lr": {"least": 1}}}, "where: bounds are"),
        ({"id": "K1", "statement": "s", **TREND, "level": 95}, "level must be less than 1"),
        (
            {"id": "K1", "statement": "s", "kind": "paired", "y": "gap", "a": {}, "b": {}},
            "one of direction, difference and ratio",
        ),
        (
            {
                "id": "K1",
                "statement": "s",
                "kind": "paired",
                "y": "gap",
                "a": {},
                "b": {},
                "direction": "less",
            }
            | {"match": ["lr"]},
            "match must hold the cluster 'seed'",
        ),
        (
            {"id": "K1", "statement": "s", "kind": "optimum", "x": "lr", "y": "gap", "then": "stops"},
            "needs a margin",
        ),
        (
            {"id": "K1", "statement": "s", "kind": "all", "claims": [TREND, {**TREND, "kind": "all"}]},
            "claim 'K1', part 2: a part may not be of kind 'all'",
        ),
        (
            {"id": "K1", "statement": "s", "kind": "all", "claims": [{**TREND, "x": "a(b)"}]},
            "claim 'K1', part 1: x: an expression",
        ),
    ],
)
def test_one_sentence(content, said):
    with pytest.raises(InputError, match=said) as raised:
        read_claims([content])
    assert "\n" not in str(raised.value)


def test_ids_are_unique():
    claim = {"id": "K1", "statement": "s", **TREND}
    with pytest.raises(InputError, match="'K1' is given twice"):
        read_claims([claim, claim])


def test_the_type_reads_what_the_reader_does():
    claim = {"id": "K1", "statement": "s", "kind": "all", "claims": [TREND]}
    assert TypeAdapter(Claim).validate_python(claim) == read_claims([claim])[0]


def test_every_kind_is_documented():
    assert all(model.__doc__ for model in KINDS.values())
    assert len(KINDS) == 16
