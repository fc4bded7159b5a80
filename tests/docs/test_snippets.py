"""Every Python snippet of the pages on optimizers and the monitor runs, top to bottom, as does the example."""

from __future__ import annotations

import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest

from sharpscope.training import OptimizerConfig

ROOT = Path(__file__).parents[2]
NEEDS = {
    "Lightning": "lightning",
    "Hugging Face Trainer": "transformers",
    "SAM in Lightning": "lightning",
    "SAM in the Hugging Face Trainer": "transformers",
    "SAM with accelerate": "accelerate",
}


def sections(page: str) -> list[tuple[str, str]]:
    """(heading, code) of every section of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return [
        (heading, "\n".join(re.findall(r"```python\n(.*?)```", body, flags=re.DOTALL)))
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["optimizers.md", "monitor.md"])
def test_the_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "snippets"}
    ran = 0
    for heading, code in sections(page):
        if code and (heading not in NEEDS or _there(NEEDS[heading])):
            exec(compile(code, f"{page}: {heading}", "exec"), names)
            ran += 1
    assert ran >= 3


def test_the_configuration_is_one() -> None:
    text = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    config = OptimizerConfig.model_validate(tomllib.loads(snippet)["run"]["optimizer"])
    assert config.options == {"base": "sgd", "rho": 0.05, "momentum": 0.9}


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / "examples" / "edge_of_stability.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path), "--quick"])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.count("of measurements within 10%") == 4
    assert len(list(tmp_path.glob("*.parquet"))) == 4
    assert (tmp_path / "edge-of-stability.svg").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["momentum 0.5", "momentum 0.9", "Nesterov 0.9", "Adam"])
def test_every_optimizer_of_the_example_settles_at_its_edge(name: str, tmp_path: Path) -> None:
    """Every measurement of the last half lies within 10 % of the optimizer's own edge."""
    example = runpy.run_path(str(ROOT / "examples" / "edge_of_stability.py"), run_name="example")
    steps = example["STEPS"]
    monitor = example["descend"](example["RUNS"][name], steps, tmp_path / "s.parquet", every=150)
    table = example["against_edge"](monitor)
    late = table.loc[table["step"] > steps / 2, "share"]
    assert len(late) == 10
    assert ((late - 1).abs() < 0.1).all(), late.tolist()


def _there(library: str) -> bool:
    try:
        __import__(library)
    except ImportError:
        return False
    return True
