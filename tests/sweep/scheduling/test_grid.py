from __future__ import annotations

import math

import pytest

from sharpscope.errors import InputError
from sharpscope.sweep import GridBlock, Task, expand


def test_axes_multiply_in_order_and_leave_the_base_alone():
    base = {"optimizer": {"name": "sgd", "lr": 0.5}, "seed": 7}
    grid = expand(base, [GridBlock({"optimizer.lr": [0.1, 0.2], "seed": [0, 1, 2]})])
    assert [(s["optimizer"]["lr"], s["seed"]) for s in grid] == [
        (lr, seed) for lr in (0.1, 0.2) for seed in (0, 1, 2)
    ]
    assert all(s["optimizer"]["name"] == "sgd" for s in grid)
    assert base == {"optimizer": {"name": "sgd", "lr": 0.5}, "seed": 7}


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


AXES = {"lr": {"low": 0.01, "high": 0.1}, "batch": {"low": 2, "high": 5}, "seed": [0, 1, 2]}


def test_draws_are_independent_and_uniform_in_the_logarithm():
    grid = expand({}, [GridBlock({**AXES, "lr": {"low": 1e-9, "high": 1.0}}, draws=4000)])
    n = len(grid)
    assert 3800 < n <= 4000, "duplicates are dropped, as everywhere"
    logs = sorted(math.log10(s["lr"]) for s in grid)
    assert all(abs(value - (-9 + 9 * (i + 0.5) / n)) < 0.25 for i, value in enumerate(logs))
    for key, shares in {
        "batch": [math.log((b + 1) / b) / math.log(3) for b in (2, 3, 4, 5)],
        "seed": [1 / 3] * 3,
    }.items():
        values = [s[key] for s in grid]
        found = [values.count(v) / n for v in sorted(set(values))]
        assert found == pytest.approx(shares, abs=0.03)
    small = [s["seed"] for s in grid if s["batch"] == 2]
    assert small.count(0) / len(small) == pytest.approx(1 / 3, abs=0.05)  # axes are drawn each by itself


def test_more_draws_keep_those_before_and_blocks_and_cases_draw_each_their_own():
    few, many = (expand({}, [GridBlock(AXES, draws=draws)]) for draws in (10, 30))
    assert few == many[: len(few)]
    two = expand({}, [GridBlock(AXES, [{"model": "a"}, {"model": "b"}], 10), GridBlock(AXES, draws=10)])
    rates = [s["lr"] for s in two]
    assert len(set(rates)) > 27, "no two of the three draw the same"
    assert [s.get("model") for s in two] == ["a"] * 10 + ["b"] * 10 + [None] * 10
    seeds = [{s["lr"] for s in expand({}, [GridBlock(AXES, draws=10, draw_seed=seed)])} for seed in range(3)]
    assert seeds[0] == {s["lr"] for s in few}, "seed 0 is what is drawn without one"
    assert len(set.union(*seeds)) > 27, "no two seeds draw the same"


def test_a_range_may_span_all_floats():
    rates = [s["lr"] for s in expand({}, [GridBlock({"lr": {"low": 1e-300, "high": 1e300}}, draws=50)])]
    assert min(rates) < 1e-100 < 1e100 < max(rates)


def test_of_several_blocks_the_wrong_one_is_named():
    with pytest.raises(InputError, match=r"lists no values; give at least one \(block 2 of the grid\)"):
        expand({}, [GridBlock({"lr": [1]}), GridBlock({"lr": []})])


def test_what_is_drawn_lies_within_its_ends():
    axes = {"lr": {"low": 0.0123456, "high": 0.0124}, "b": {"low": 7, "high": 8}}
    grid = expand({}, [GridBlock(axes, draws=99)])
    assert {(s["lr"], s["b"]) for s in grid} == {(lr, b) for lr in (0.0123456, 0.0124) for b in (7, 8)}


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (GridBlock({"lr": {"low": 0.1, "high": 1}}), "'lr' is a range, and .* give .* draws = 20"),
        (GridBlock({"lr": {"low": 1, "high": 0.1}}, draws=2), "'lr' needs 0 < low < high, received low = 1"),
        (GridBlock({"lr": {"low": 0, "high": 0.1}}, draws=2), "'lr' needs 0 < low < high, received low = 0"),
        (
            GridBlock({"lr": {"low": "a", "high": 1}}, draws=2),
            "'lr' needs 0 < low < high, received low = 'a'",
        ),
        (GridBlock({"lr": {"low": 1, "high": math.inf}}, draws=2), "'lr' needs 0 < low < high"),
        (GridBlock({"n": {"low": 1, "high": 10**400}}, draws=2), "'n' needs 0 < low < high"),
        (GridBlock({"lr": {"low": math.nan, "high": 1.0}}, draws=2), "'lr' needs 0 < low < high"),
        (GridBlock({"lr": {"low": 1, "step": 2}}, draws=2), "axis 'lr' is .* an axis lists its values"),
        (
            GridBlock({"lr.low": 1, "lr.hgh": 2}, draws=2),
            r"axis 'lr.low' is 1, .* a range to draw from is \{ low =",
        ),
        (
            GridBlock({"lr": [1, 2], "seed": [0]}, draws=2),
            "draws 2 settings have 2 combinations; leave draws out",
        ),
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


def test_settings_share_the_tables_in_which_they_do_not_differ():
    base = {"data": {"name": "digits"}, "optimizer": {"name": "sgd", "options": {"momentum": 0.9}}}
    grid = expand(base, [GridBlock({"optimizer.options.momentum": [0.0, 0.5], "seed": [0, 1, 2]})])
    assert [(s["optimizer"]["options"]["momentum"], s["seed"]) for s in grid] == [
        (momentum, seed) for momentum in (0.0, 0.5) for seed in (0, 1, 2)
    ]
    assert len({id(s["data"]) for s in grid}) == 1
    assert len({id(s["optimizer"]) for s in grid}) == 2
    assert base["optimizer"]["options"] == {"momentum": 0.9}, "left as it was"


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
