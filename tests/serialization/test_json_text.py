from __future__ import annotations

import json
import math
from collections import OrderedDict

import numpy
import pytest

from sharpscope.errors import InputError
from sharpscope.serialization import (
    canonical_json,
    content_hash,
    json_ready,
    readable_json,
    require_json,
    seal_json,
    unseal_json,
)


def test_canonical_json_is_one_text_per_value():
    assert canonical_json({"b": (1, 2), "a": {"z": 0.10, "y": None}}) == '{"a":{"y":null,"z":0.1},"b":[1,2]}'
    assert content_hash({"a": 1, "b": [0.1]}) == content_hash({"b": (1e-1,), "a": 1.0})
    assert content_hash({"a": 1}) != content_hash({"a": True})
    assert content_hash({"a": 1}) != content_hash({"a": "1"})
    assert content_hash({"a": None}) != content_hash({})
    assert canonical_json("λ") == '"\\u03bb"'


@pytest.mark.parametrize(
    "value", [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2.0**53, 2**70, 1e22, -3]
)
def test_canonical_numbers_read_back_equal(value):
    assert json.loads(canonical_json(value)) == value


def test_a_numpy_float_is_a_number():
    assert canonical_json(numpy.float64(0.1)) == "0.1"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            {"optimizer": {"lr": math.nan}},
            "optimizer.lr is nan, which JSON cannot hold; make it finite",
        ),
        ({"a": [1, math.inf]}, r"a\[1\] is inf"),
        ({1: 2}, "the table has the key 1, and keys are text"),
        ({"a": {2, 3}}, "a is of type set, which JSON cannot hold"),
    ],
)
def test_canonical_json_refuses_by_place(value, sentence):
    for refusing in (canonical_json, require_json):
        with pytest.raises(InputError, match=sentence):
            refusing(value)


def test_typed_canonical_json_tells_a_float_from_an_integer():
    assert canonical_json({"lr": 1.0, "n": 1, "zero": -0.0}, by_value=False) == '{"lr":1.0,"n":1,"zero":-0.0}'
    assert content_hash({"lr": 1.0}, by_value=False) != content_hash({"lr": 1}, by_value=False)


def test_what_json_can_hold_is_let_through():
    deep = 1
    for _ in range(200):
        deep = {"a": [deep]}
    for value in (None, {"a": (1, True, None, "λ", -0.5)}, numpy.float64(0.1), [OrderedDict(b=1)], deep):
        require_json(value)
        canonical_json(value)


def test_a_value_nested_beyond_reason_is_refused_in_a_sentence():
    value = []
    for _ in range(100_000):
        value = [value]
    for refusing in (canonical_json, require_json):
        with pytest.raises(InputError, match="nested too deeply"):
            refusing(value)


def test_json_ready_says_nan_and_infinity_in_one_way_at_every_depth():
    value = {1: [numpy.float32("nan"), (math.inf, numpy.int64(3))], "inner": {"x": -math.inf, "ok": True}}
    assert json_ready(value) == {"1": [None, ["inf", 3]], "inner": {"x": "-inf", "ok": True}}
    assert json.loads(readable_json(json_ready(value))) == json_ready(value)


def test_readable_json_refuses_what_json_has_no_form_for():
    with pytest.raises(ValueError, match="JSON"):
        readable_json({"loss": math.nan})


@pytest.mark.parametrize(
    "text", [readable_json({"a": [1, {"b": "}\n"}], "λ": None}), '{"event": "x"}\n', '{"a": {}}']
)
def test_a_sealed_table_reads_back_and_no_byte_of_it_can_change(text):
    sealed = seal_json(text).encode()
    assert json.loads(sealed).items() >= json.loads(text).items()
    assert unseal_json(sealed) == json.loads(text)
    for place in range(len(sealed)):
        for flipped in (sealed[place] ^ 1, ord(" "), ord("\n"), None):
            changed = sealed[:place] + (b"" if flipped is None else bytes([flipped])) + sealed[place + 1 :]
            if changed != sealed:
                with pytest.raises(ValueError):
                    unseal_json(changed)


def test_only_a_table_with_a_key_can_be_sealed():
    for text in ("{}", "[1]", "1", "{\n}\n", ""):
        with pytest.raises(InputError, match="only a JSON table"):
            seal_json(text)
