"""benchmarks/gpu.py passes part by part at toy size on a CPU, so that it is fit for the day a GPU is there."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_every_part_passes_in_small_and_is_not_taken_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "gpu.json"
    assert called(monkeypatch, "--toy", "--output", output) == 0
    found = json.loads(output.read_text())
    rows = {name: part["rows"] for name, part in found.items() if isinstance(part, dict)}
    assert list(rows) == ["tests", "products", "lambda_max", "training", "papers"]
    assert rows["tests"][0]["all below 1e-3"]
    assert rows["products"][0]["relative difference"] < 1e-4
    assert [row["method"] for row in rows["lambda_max"]][:2] == ["sharpscope, certified", "sharpscope, fast"]
    assert all(row["relative error"] < 2e-3 for row in rows["lambda_max"][:2])
    assert rows["training"][0]["steps / s"] > 0
    assert rows["papers"][0]["ended"] == "exit 0"
    assert "## lambda_max" in capsys.readouterr().out
    assert called(monkeypatch, "--toy", "--output", output) == 0
    assert json.loads(output.read_text()) == found


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert called(monkeypatch, "--output", tmp_path / "gpu.json") == 2
    assert "no CUDA device is here" in capsys.readouterr().err
