from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpscope import InputError
from sharpscope.landscape.progress import Ledger


def test_finished_points_are_kept_and_only_missing_ones_evaluated(tmp_path: Path) -> None:
    path = tmp_path / "points.json"

    def failing(index: int) -> tuple[float, None]:
        if index == 2:
            raise RuntimeError
        return float(index), None

    with pytest.raises(RuntimeError):
        Ledger(path, {"a": 1}).run(failing, 4, None)
    asked: list[int] = []

    def evaluate(index: int) -> tuple[float, float]:
        asked.append(index)
        return 10.0 * index, 0.5

    seen: list[tuple[int, int]] = []
    values = Ledger(path, {"a": 1}).run(evaluate, 4, lambda done, total: seen.append((done, total)))
    assert list(values) == [(0.0, None), (1.0, None), (20.0, 0.5), (30.0, 0.5)]
    assert asked == [2, 3]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(json.loads(path.read_text())["done"]) == ["0", "1", "2", "3"]
    assert [p.name for p in tmp_path.iterdir()] == ["points.json"]


def test_another_request_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    Ledger(path, {"a": 1}).run(lambda _: (0.0, None), 1, None)
    with pytest.raises(InputError, match="another request"):
        Ledger(path, {"a": 2})
    path.write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        Ledger(path, {"a": 1})
