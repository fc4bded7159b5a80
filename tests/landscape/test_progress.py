from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from sharpscope import InputError, NotConvergedWarning, Objective
from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.landscape.progress import Ledger


def limits(progress: Progress = None, on_interrupt: OnInterrupt = "raise") -> CallLimits:
    model = nn.Linear(2, 2)
    obj = Objective(model, nn.functional.cross_entropy, (torch.eye(2), torch.arange(2)))
    return CallLimits("surface", obj, None, progress, on_interrupt, unit="point")


def test_an_interrupt_returns_the_points_so_far_and_the_same_call_goes_on(tmp_path: Path) -> None:
    def interrupted(index: int) -> tuple[float, None]:
        if index == 2:
            raise KeyboardInterrupt
        return float(index), None

    path = tmp_path / "points.json"
    with pytest.warns(NotConvergedWarning, match="interrupted with 2 of 4 points"):
        values = Ledger(path, {}).run(interrupted, 4, limits(on_interrupt="return"))
    assert [loss for loss, _ in values[:2]] == [0.0, 1.0]
    assert all(math.isnan(loss) for loss, _ in values[2:])
    values = Ledger(path, {}).run(lambda index: (10.0 * index, None), 4, limits())
    assert [loss for loss, _ in values] == [0.0, 1.0, 20.0, 30.0]


def test_finished_points_are_kept_and_only_missing_ones_evaluated(tmp_path: Path) -> None:
    path = tmp_path / "points.json"

    def failing(index: int) -> tuple[float, None]:
        if index == 2:
            raise RuntimeError
        return float(index), None

    with pytest.raises(RuntimeError):
        Ledger(path, {"a": 1}).run(failing, 4, limits())
    asked: list[int] = []

    def evaluate(index: int) -> tuple[float, float]:
        asked.append(index)
        return 10.0 * index, 0.5

    seen: list[tuple[float, float | None]] = []
    told = limits(lambda state: seen.append((state.done, state.expected)))
    values = Ledger(path, {"a": 1}).run(evaluate, 4, told)
    assert list(values) == [(0.0, None), (1.0, None), (20.0, 0.5), (30.0, 0.5)]
    assert asked == [2, 3]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(json.loads(path.read_text())["done"]) == ["0", "1", "2", "3"]
    assert [p.name for p in tmp_path.iterdir()] == ["points.json"]


def test_another_request_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    Ledger(path, {"a": 1}).run(lambda _: (0.0, None), 1, limits())
    with pytest.raises(InputError, match="another request"):
        Ledger(path, {"a": 2})
    path.write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        Ledger(path, {"a": 1})
