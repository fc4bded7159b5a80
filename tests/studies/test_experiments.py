"""One file, several experiments, several scales."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpscope import InputError
from sharpscope.studies import load_studies, load_study, make_joint_plan, make_plan
from studies.mini_paper import MINI


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mini.toml"
    path.write_text(MINI)
    return path


def test_an_experiment_is_the_file_with_its_own_keys_and_the_scales_on_top(file: Path) -> None:
    fig1, fig3 = load_studies(file, "smoke")
    assert (fig1.key, fig3.key, fig1.folder) == ("mini/fig1", "mini/fig3", "mini-fig1-smoke")
    assert (fig1.config.title, fig3.config.title, fig1.paper) == ("First", "", "A small paper")
    assert fig1.config.citation == "Someone (2020)"
    assert fig1.config.note == "Four epochs."
    assert fig1.config.run["stop"]["epochs"] == 4
    assert fig1.config.claims[2]["b"] == {"batch_size": 60}
    assert [r.config.batch_size for r in make_plan(fig1).runs[:4]] == [20, 20, 60, 60]
    paper, _ = load_studies(file, "paper")
    assert paper.config.run["stop"]["epochs"] == 5
    laptop, _ = load_studies(file, "laptop")
    assert laptop.config.claims[2]["b"] == {"batch_size": 40}
    assert {r.config.batch_size for r in make_plan(laptop).runs} == {20, 40}


def test_experiments_and_the_figures_they_cover_are_named_behind_a_slash(file: Path) -> None:
    assert load_study(f"{file}/fig3", "smoke").key == "mini/fig3"
    assert load_study(f"{file}/fig2", "smoke").key == "mini/fig1"
    for scale in ("smoke", None):  # which experiments there are does not depend on it
        with pytest.raises(InputError, match="fig1, fig3, received 'fig9'"):
            load_study(f"{file}/fig9", scale)
    with pytest.raises(InputError, match="2 experiments"):
        load_study(file, "smoke")


@pytest.mark.parametrize(("scale", "words"), [(None, "--scale"), ("tiny", "smoke, laptop, paper")])
def test_a_file_with_scales_is_run_at_one_of_them(file: Path, scale: str | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_studies(file, scale)


def test_a_study_without_scales_has_none_to_choose() -> None:
    with pytest.raises(InputError, match="declares no scales"):
        load_study("quickstart", "smoke")


def test_what_experiments_share_is_planned_once(file: Path) -> None:
    joint = make_joint_plan(load_studies(file, "smoke"))
    fig1, fig3 = joint.plans
    assert len(fig1.runs) == 8
    assert {run.id for run in fig3.runs} < {run.id for run in fig1.runs}
    assert len(joint.runs) == 8
    tasks = joint.tasks()
    products = [product for task in tasks for product in task.products]
    assert len(products) == len(set(products))
    assert joint.folder == "mini-smoke"
    # a run that is measured on the way is one task with its track, and needed under its own id
    tracked = {t.run: t.id for t in fig1.tracks}
    assert len(tracked) == 4
    for run, track in tracked.items():
        (task,) = (t for t in tasks if run in t.products)
        assert task.products == (run, track)
        assert task.id not in task.products


def test_all_is_every_experiment_of_every_paper() -> None:
    found = load_studies("all", "smoke")
    assert len({s.key.partition("/")[0] for s in found}) == 6
    assert "quickstart" not in {s.key for s in found}
