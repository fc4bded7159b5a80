"""A study of one's own: own network, own table, own claim; from the example that the documentation shows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from sharpscope.studies import load_study, make_plan

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_study"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(EXAMPLE, tmp_path / "own_study", ignore=shutil.ignore_patterns("results", "__py*"))
    )


def test_the_example_runs_and_its_claim_has_a_verdict(
    folder: Path, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> dict[str, object]:
        code, out, err = cli("run", "study.toml", "--json")
        assert code == 0, err
        found: dict[str, object] = json.loads(out)
        return found

    monkeypatch.chdir(folder)
    found = run()
    assert (found["done"], found["failed"]) == (30, 0)
    report = folder / "results" / "spirals" / "report"
    verdicts = pd.read_csv(report / "tables" / "verdicts.csv")
    assert verdicts["id"].tolist() == ["flatter"]
    assert verdicts["verdict"][0] in ("supported", "inconclusive")  # which, may depend on the processor
    assert verdicts["value"][0] < 0.8
    results = pd.read_csv(report / "tables" / "results.csv")
    assert results["data"].unique().tolist() == ["table"]
    assert results["lambda_max"].notna().all()
    page = (report / "index.html").read_text()
    assert "λ_max falls" in page or "λ<sub>max</sub> falls" in page
    assert "A table of 400 rows" in page
    # the same table elsewhere, as Parquet and under another name, is another content but no other place
    moved = folder / "moved"
    moved.mkdir()
    shutil.move(folder / "spirals.csv", moved / "spirals.csv")
    text = (folder / "study.toml").read_text().replace('"spirals.csv"', '"moved/spirals.csv"')
    (folder / "study.toml").write_text(text)
    again = run()
    assert (again["done"], again["skipped"]) == (0, 30)


def test_a_changed_table_is_another_study_and_parquet_serves_as_well(folder: Path) -> None:
    before = make_plan(load_study(folder / "study.toml"))
    table = pd.read_csv(folder / "spirals.csv")
    table.to_parquet(folder / "spirals.parquet", index=False)
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("spirals.csv", "spirals.parquet"))
    parquet = make_plan(load_study(folder / "study.toml"))
    table.loc[0, "x"] += 1
    table.to_csv(folder / "spirals.csv", index=False)
    (folder / "study.toml").write_text(text)
    changed = make_plan(load_study(folder / "study.toml"))
    ids = [{run.id for run in plan.runs} for plan in (before, parquet, changed)]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]
    for plan in (before, parquet, changed):
        assert "path" not in plan.runs[0].config.model_dump()["data"]
    from sharpscope.data import load

    csv_data, parquet_data = (load(plan.runs[0].config.data) for plan in (changed, parquet))
    assert len(csv_data.train) == len(parquet_data.train) == 320


def test_the_page_shows_the_files_as_they_are() -> None:
    page = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    for name, language in (("study.toml", "toml"), ("network.py", "python")):
        blocks = re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)
        assert (EXAMPLE / name).read_text(encoding="utf-8") in blocks, name
