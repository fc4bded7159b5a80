"""The page on studies is true: its studies make plans, its commands name what exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sharpscope.cli.app import app
from sharpscope.studies import load_studies, make_plan, papers
from sharpscope.training import RunConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
TOML = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_command_exists_and_every_study_it_names() -> None:
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    lines = re.findall(r"^\$ (sharpscope .+)$", PAGE, flags=re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        _, command, *arguments = shlex.split(line)
        assert command in known
        if "--scale" in arguments:
            assert load_studies(arguments[0], arguments[arguments.index("--scale") + 1])


def test_the_table_of_papers_is_complete() -> None:
    listed = re.findall(
        r"^\| `(\w+)` \| .*\|$", PAGE.partition("| paper |")[2].partition("\n\n")[0], flags=re.MULTILINE
    )
    assert sorted(listed) == papers()


def test_what_a_run_can_ask_for(tmp_path: Path) -> None:
    """The example is a study; the table has a row for every key of a run that has no paragraph of its own."""
    (run,) = (block for block in TOML if "ema_decay" in block)
    (tmp_path / "run.toml").write_text(f'name = "run"\n{run}\n[grid]\nseed = [0, 4]\n')
    (study,) = load_studies(tmp_path / "run.toml")
    plan = make_plan(study)
    assert [one.config.data.subset_seed for one in plan.runs] == [0, 4]
    assert {one.config.ema_decay for one in plan.runs} == {0.999}
    table = PAGE.partition("## What a run can ask for")[2].partition("## What else")[0]
    told = {name.partition(".")[0] for name in re.findall(r"^\| `([a-z_.]+)` \|", table, flags=re.MULTILINE)}
    common = {"model", "batch_size", "steps_per_epoch", "drop_last", "stop", "seed", "initial_weights"}
    assert told | common | {"dtype", "precision", "compile"} == set(RunConfig.model_fields)


def test_what_else_a_study_can_ask_for(tmp_path: Path) -> None:
    base = 'name = "more"\n[run]\ndata = "digits"\nmodel = "mlp"\noptimizer = { name = "sgd", lr = 0.1 }\n'
    base += "batch_size = 16\nstop = { epochs = 6 }\n[grid]\nbatch_size = [16, 256]\nseed = [0, 1]\n"
    (extra,) = (block for block in TOML if "[[tracks]]" in block)
    (tmp_path / "more.toml").write_text(base + extra)
    (study,) = load_studies(tmp_path / "more.toml")
    plan = make_plan(study)
    assert (len(plan.runs), len(plan.tracks)) == (4, 4)
    kinds = [view.kind for view in plan.views]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "landscapes": 2,
        "surfaces": 2,
        "audits": 2,
        "histograms": 4,
    }


@pytest.mark.parametrize(("scale", "large", "epochs"), [("smoke", 64, 3), ("paper", 256, 50)])
def test_experiments_and_scales(tmp_path: Path, scale: str, large: int, epochs: int) -> None:
    (file,) = (block for block in TOML if "[scales.smoke]" in block)
    (tmp_path / "rates.toml").write_text(file)
    batch, rate = (make_plan(study) for study in load_studies(tmp_path / "rates.toml", scale))
    assert {run.config.batch_size for run in batch.runs} == {32, large}
    assert {run.config.optimizer.lr for run in rate.runs} == {0.05, 0.2}
    assert {run.config.stop.epochs for run in (*batch.runs, *rate.runs)} == {epochs}
