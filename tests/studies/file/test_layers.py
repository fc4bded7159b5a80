from __future__ import annotations

import pytest

from sharpscope import InputError
from sharpscope.studies.file.layers import overlay, substitute


def test_tables_merge_and_lists_are_replaced() -> None:
    base = {"run": {"stop": {"epochs": 9, "train_loss": 0.1}}, "grid": {"seed": [0, 1]}}
    assert overlay(base, {"run": {"stop": {"epochs": 2}}, "grid": {"seed": [5]}}) == {
        "run": {"stop": {"epochs": 2, "train_loss": 0.1}},
        "grid": {"seed": [5]},
    }
    assert base["run"]["stop"]["epochs"] == 9  # what lies below is not changed


def test_another_model_or_schedule_comes_without_the_options_of_the_last() -> None:
    base = {"model": {"name": "vgg11", "options": {"width": 0.5}}, "schedule": {"kind": "every", "n": 3}}
    changed = overlay(base, {"model": {"name": "mlp"}, "schedule": {"kind": "constant"}})
    assert changed == {"model": {"name": "mlp"}, "schedule": {"kind": "constant"}}
    assert overlay({"model": "vgg11"}, {"model": {"options": {"width": 0.5}}})["model"] == {
        "name": "vgg11",
        "options": {"width": 0.5},
    }


def test_entries_are_changed_by_their_label() -> None:
    base = {
        "measures": ["trace", {"measure": "lambda_max", "name": "top", "tol": 0.1}],
        "claims": [{"id": "K1"}],
    }
    changed = overlay(base, {"measures": {"top": {"tol": 0.2}}, "claims": {"K1": {"margin": 1}}})
    assert changed["measures"] == ["trace", {"measure": "lambda_max", "name": "top", "tol": 0.2}]
    assert changed["claims"] == [{"id": "K1", "margin": 1}]
    with pytest.raises(InputError, match=r"measures\.bottom.*'trace', 'top'"):
        overlay(base, {"measures": {"bottom": {"tol": 1}}})
    assert overlay(base, {"measures": {"bottom": {"tol": 1}}}, shared=True) == base


def test_a_layer_does_not_drop_a_list_of_grid_blocks_by_setting_one_axis() -> None:
    base = {"grid": [{"seed": [0, 1]}, {"seed": [0], "batch_size": [8, 32]}]}
    with pytest.raises(InputError, match=r"list of 2 blocks.*sets seed.*write all blocks again"):
        overlay(base, {"grid": {"seed": [5]}}, shared=True)
    assert overlay(base, {"grid": [{"seed": [5]}]}) == {"grid": [{"seed": [5]}]}


def test_values_are_whole_texts_with_a_dollar() -> None:
    content = {"where": {"batch_size": "$small"}, "rates": "$rates", "note": "costs $small"}
    assert substitute(content, {"small": 20, "rates": [0.1]}) == {
        "where": {"batch_size": 20},
        "rates": [0.1],
        "note": "costs $small",
    }
    with pytest.raises(InputError, match=r"where\.batch_size is '\$small', and the values are large"):
        substitute(content, {"large": 1})
