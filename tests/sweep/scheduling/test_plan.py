from __future__ import annotations

import json
import math

import pytest

from sharpscope.errors import InputError
from sharpscope.sweep import GridBlock, Task, canonical_json, content_hash, expand


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
    numpy = pytest.importorskip("numpy")
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
    with pytest.raises(InputError, match=sentence):
        canonical_json(value)


def test_axes_multiply_in_order_and_leave_the_base_alone():
    base = {"optimizer": {"name": "sgd", "lr": 0.5}, "seed": 7}
    grid = expand(base, [GridBlock({"optimizer.lr": [0.1, 0.2], "seed": [0, 1, 2]})])
    assert [(s["optimizer"]["lr"], s["seed"]) for s in grid] == [
        (lr, seed) for lr in (0.1, 0.2) for seed in (0, 1, 2)
    ]
    assert all(s["optimizer"]["name"] == "sgd" for s in grid)
    assert base == {"optimizer": {"name": "sgd", "lr": 0.5}, "seed": 7}
    grid[0]["optimizer"]["lr"] = 9
    assert grid[1]["optimizer"]["lr"] == 0.1


def test_cases_change_together_and_multiply_with_axes():
    block = GridBlock(
        axes={"seed": [0, 1]},
        cases=[{"optimizer.lr": 0.005, "batch": 100}, {"optimizer.lr": 0.0125, "batch": 250}],
    )
    grid = expand({}, [block])
    assert [(s["optimizer"]["lr"], s["batch"], s["seed"]) for s in grid] == [
        (0.005, 100, 0),
        (0.005, 100, 1),
        (0.0125, 250, 0),
        (0.0125, 250, 1),
    ]


def test_blocks_unite_without_duplicates_in_first_order():
    grid = expand(
        {"seed": 0}, [GridBlock({"lr": [1, 2]}), GridBlock({"lr": [2.0, 3], "seed": [0]}), GridBlock()]
    )
    assert grid == [{"seed": 0, "lr": 1}, {"seed": 0, "lr": 2}, {"seed": 0, "lr": 3}, {"seed": 0}]
    assert expand({"a": 1}) == [{"a": 1}]


def test_a_value_may_replace_a_table_and_longer_paths_change_it():
    tables = [{"name": "sgd", "momentum": 0.9}, {"name": "adagrad"}]
    grid = expand(
        {"optimizer": {"name": "adam", "eps": 1}}, [GridBlock({"optimizer.lr": [0.1], "optimizer": tables})]
    )
    assert [s["optimizer"] for s in grid] == [
        {"name": "sgd", "momentum": 0.9, "lr": 0.1},
        {"name": "adagrad", "lr": 0.1},
    ]
    assert tables == [{"name": "sgd", "momentum": 0.9}, {"name": "adagrad"}]
    assert expand({"stop": {"plateau": None}}, [GridBlock({"stop.plateau.patience": [5]})]) == [
        {"stop": {"plateau": {"patience": 5}}}
    ]


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (GridBlock({"optimizer.lr": []}), "axis 'optimizer.lr' lists no values; give at least one"),
        (
            GridBlock({"model": "mlp"}),
            r"axis 'model' is 'mlp', and an axis lists its values; write \['mlp'\]",
        ),
        (GridBlock({"seed": 3}), "axis 'seed' is 3"),
        (GridBlock({"optimizer..lr": [1]}), "has an empty part"),
        (GridBlock({"data.name": ["digits"]}), "leads through 'data', which is 'digits' and no table"),
        (GridBlock({"lr": [1]}, cases=[{"lr": 2}]), "'lr' is both an axis and in a case"),
        (GridBlock(cases={"lr": 2}), "cases must be a list of tables"),
        (GridBlock({"lr": [0.1, math.nan]}), "lr is nan"),
    ],
)
def test_expand_refuses_in_one_sentence(block, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        expand({"data": "digits"}, [block])
    assert "\n" not in str(error.value)


def test_the_last_of_a_kind_of_axis_may_be_a_range():
    assert [s["seed"] for s in expand({}, [GridBlock({"seed": range(3)})])] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": "../up"}, "a task's id names a folder and is '../up'"),
        ({"id": "a@b"}, "a task's id names a folder"),
        ({"kind": ""}, "a task's kind names a folder"),
        ({"kind": "tmp"}, "a task's kind is 'tmp', which the store keeps"),
        ({"entry": "module.function"}, "write 'package.module:function'"),
        ({"entry": "__main__:function"}, "workers import it by name"),
        ({"payload": {"lr": math.inf}}, "lr is inf"),
    ],
)
def test_a_task_is_checked_when_made(change, sentence):
    fields = {"id": "a1", "kind": "runs", "entry": "package.module:function", "payload": {}}
    Task(**fields)
    with pytest.raises(InputError, match=sentence):
        Task(**{**fields, **change})
