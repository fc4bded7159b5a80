"""Every Python snippet of the pages on measures and the landscape runs, top to bottom."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "page", ["measures/perturbation.md", "measures/curvature.md", "measures/which.md", "landscape.md"]
)
def test_the_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) >= (1 if page == "measures/which.md" else 3)
    names: dict[str, object] = {"__name__": "snippets"}
    for number, code in enumerate(snippets):
        exec(compile(code, f"{page}, snippet {number}", "exec"), names)


def test_every_measure_has_a_row_that_agrees_with_the_registry() -> None:
    from sharpscope.measures import REGISTRY

    text = (ROOT / "measures/which.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", text, flags=re.MULTILINE))
    assert rows.keys() == REGISTRY.keys()
    for name, scale in rows.items():
        if scale != "–":
            assert (scale == "same") == REGISTRY[name].rescaling_invariant, name


@pytest.mark.parametrize("page", ["measures/perturbation.md", "landscape.md"])
def test_the_pictures_are_there(page: str) -> None:
    for target in re.findall(r"!\[.*?\]\((.+?)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / target).exists()


@pytest.mark.filterwarnings("ignore")
def test_the_language_model_example_runs_at_a_smaller_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    example = ROOT.parent / "examples" / "language_model.py"
    monkeypatch.setattr(sys, "argv", [str(example), "--width", "16", "--layers", "1", "--sequences", "16"])
    runpy.run_path(str(example), run_name="__main__")
    shown = capsys.readouterr().out
    assert shown.count("converged True") == 3
    assert "1,008 predicted bytes" in shown


def test_the_graph_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch_geometric")
    example = ROOT.parent / "examples" / "graph_model.py"
    monkeypatch.setattr(sys, "argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    shown = capsys.readouterr().out
    assert shown.count("converged True") == 3
    assert "34 nodes" in shown
