"""Two experiments of the papers end to end at smoke: no files needed, every claim with a verdict or a reason."""

from __future__ import annotations

import pytest

from in_process import InThisProcess
from sharpscope.studies import (
    collect_all,
    load_studies,
    make_joint_plan,
    run_plan,
    validate_plan,
    write_reports,
)
from sharpscope.sweep import Store


@pytest.mark.slow
def test_two_experiments_of_different_papers_share_a_store(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARPSCOPE_DATA", raising=False)
    studies = [
        study for name in ("patriarca2024/fig1b", "hammoud2023/H0") for study in load_studies(name, "smoke")
    ]
    joint = make_joint_plan(studies)
    validate_plan(joint)
    store = Store(tmp_path / "store")
    summary = run_plan(joint, store, executor=InThisProcess(store.root))
    assert (summary.failed, summary.blocked) == (0, 0)
    tables = collect_all(store)
    assert list(tables) == ["patriarca2024-fig1b-smoke", "hammoud2023-H0-smoke"]
    verdicts = {v.id: v for one in tables.values() for v in one.verdicts}
    assert sorted(verdicts) == ["H0", "H0 by plain steps", "P4", "P5"]
    assert all(v.verdict != "not evaluable" and v.reason and v.scale == "smoke" for v in verdicts.values())
    assert verdicts["H0"].verdict == "supported"  # a theorem, at any scale
    assert "Smoke: embedded digits" in write_reports(tables, tmp_path / "report").with_name(
        "hammoud2023-H0-smoke"
    ).joinpath("index.html").read_text(encoding="utf-8")
