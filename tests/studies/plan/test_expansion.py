"""What a plan is made of: names of columns, tasks and what they need, columns that claims name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpscope import InputError
from sharpscope.serialization import content_hash
from sharpscope.studies import JointPlan, Plan, load_study, make_plan

BASE = 'name = "few"\n[run]\ndata = "digits"\noptimizer = { name = "sgd", lr = 0.1 }\nmodel = "mlp"\n'
BASE += "batch_size = 50\nstop = { epochs = 2 }\n"


def planned(tmp_path: Path, text: str) -> Plan:
    (tmp_path / "few.toml").write_text(BASE + text)
    return make_plan(load_study(tmp_path / "few.toml"))


def test_settings_are_drawn_from_ranges_and_lists(tmp_path: Path) -> None:
    grid = "[[grid]]\ndraws = 6\nbatch_size = { low = 8, high = 64 }\noptimizer.lr = { low = 0.01, high = 0.1 }\n"
    plan = planned(tmp_path, grid + "seed = [3, 4]\n")
    assert len(plan.runs) == 6
    assert set(plan.axes) == {"batch_size", "lr"}
    assert {run.config.seed for run in plan.runs} == {3, 4}
    assert len({run.config.optimizer.lr for run in plan.runs}) == 6
    for wrong in ("draws = 0", "draws = true", 'draws = "6"', "draws = 2.0", "draws = -1"):
        with pytest.raises(InputError, match="draws must be a whole number from 1 on, received"):
            planned(tmp_path, grid.replace("draws = 6", wrong))
    with pytest.raises(InputError, match=r"few\.toml, line \d+: grid: axis 'batch_size' is a range"):
        planned(tmp_path, grid.replace("draws = 6\n", ""))
    other = planned(tmp_path, grid.replace("draws = 6", "draws = 6\ndraw_seed = 1"))
    assert not {run.config.optimizer.lr for run in plan.runs} & {
        run.config.optimizer.lr for run in other.runs
    }
    for wrong in ("true", "-1", "1.0", '"1"'):
        with pytest.raises(InputError, match="draw_seed must be a whole number from 0 on, received"):
            planned(tmp_path, grid.replace("draws = 6", f"draws = 6\ndraw_seed = {wrong}"))
    with pytest.raises(InputError, match="draw_seed is for a block that draws, and there is no draws"):
        planned(tmp_path, "[grid]\nseed = [1, 2]\ndraw_seed = 3\n")


def test_of_several_blocks_the_wrong_one_s_line_is_named(tmp_path: Path) -> None:
    block = "[[grid]]\ndraws = 6\noptimizer.lr = { low = 0.01, high = 0.1 }\n"
    lines = BASE.count("\n")
    for wrong, line in (("high = 0.001", lines + 6), ("hgh = 1", lines + 6)):
        with pytest.raises(
            InputError, match=rf"few\.toml, line {line}: grid: axis .* \(block 2 of the grid\)"
        ):
            planned(tmp_path, block + block.replace("high = 0.1", wrong))
    with pytest.raises(
        InputError, match=rf"line {lines + 4}: grid: draws must be .* \(block 2 of the grid\)"
    ):
        planned(tmp_path, block + block.replace("6", '"six"'))


def test_options_named_low_and_high_are_no_range(tmp_path: Path) -> None:
    axes = "[grid]\nmodel.options.low = [1, 2]\nmodel.options.high = [3]\n"
    text = BASE.replace('"mlp"', '{ name = "nets:build", options = { width = 5 } }')
    (tmp_path / "few.toml").write_text(text + axes)
    assert len(make_plan(load_study(tmp_path / "few.toml")).runs) == 2
    case = "[[grid.cases]]\nmodel.options = { low = 1, high = 3 }\n"
    (tmp_path / "few.toml").write_text(text + case)
    (run,) = make_plan(load_study(tmp_path / "few.toml")).runs
    assert run.config.model.options == {"width": 5, "low": 1, "high": 3}


def test_two_axes_of_one_last_part_keep_their_whole_paths(tmp_path: Path) -> None:
    text = BASE.replace('"mlp"', '{ name = "nets:build" }')
    text = text.replace("epochs = 2", "epochs = 2, plateau = { threshold = 0.1 }")
    axes = "[grid]\nmodel.options.threshold = [1, 2]\nstop.plateau.{} = [3, 4]\n"
    for second, named in {
        "patience": ("threshold", "patience"),
        "threshold": ("model.options.threshold", "stop.plateau.threshold"),
    }.items():
        (tmp_path / "few.toml").write_text(text + axes.format(second))
        plan = make_plan(load_study(tmp_path / "few.toml"))
        assert plan.axes == named
        assert [tuple(run.settings.values()) for run in plan.runs] == [(1, 3), (1, 4), (2, 3), (2, 4)]


def test_a_measure_waits_for_its_run_and_a_line_for_both(tmp_path: Path) -> None:
    text = (
        '[grid]\nseed = [0, 1]\noptimizer.lr = [0.1, 0.2]\n[[measures]]\nmeasure = "trace"\n[[landscapes]]\n'
    )
    text += 'name = "line"\na = { lr = 0.1 }\nb = { lr = 0.2 }\n'
    plan = planned(tmp_path, text)
    tasks = {task.id: task for task in JointPlan((plan,)).tasks()}
    assert all(tasks[run.id].needs == () for run in plan.runs)
    assert {measure.id: (measure.run,) for measure in plan.measures} == {
        m.id: tasks[m.id].needs for m in plan.measures
    }
    assert [len(tasks[view.id].needs) for view in plan.views] == [2, 2]


@pytest.mark.parametrize("key", ["where", "a", "b"])
def test_every_selection_of_a_claim_is_checked(key: str, tmp_path: Path) -> None:
    claim = {"a": "{ lr = 0.1 }", "b": "{ lr = 0.2 }", "where": "{ seed = 0 }", key: "{ depth = 3 }"}
    text = '[grid]\noptimizer.lr = [0.1, 0.2]\n[[claims]]\nid = "C"\nstatement = "s"\nkind = "paired"\ny = "gap"\n'
    text += 'direction = "greater"\n' + "".join(f"{name} = {value}\n" for name, value in claim.items())
    with pytest.raises(InputError, match=r"'depth'.* is no column") as raised:
        planned(tmp_path, text)
    line = (BASE + text).splitlines().index(f"{key} = {{ depth = 3 }}") + 1
    assert f"line {line}:" in str(raised.value)


def test_runs_of_equal_parts_share_them_and_progress_is_reported(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text(
        """
name = "large"
[run]
data = "digits"
model = "mlp"
optimizer = { name = "sgd", lr = 0.1, options = { momentum = 0.9 } }
batch_size = 32
stop = { epochs = 1 }
[grid]
"optimizer.lr" = [0.1, 0.2]
seed = SEEDS
""".replace("SEEDS", str(list(range(1100))))
    )
    told: list[tuple[int, int]] = []
    plan = make_plan(load_study(tmp_path / "large.toml"), progress=lambda *counts: told.append(counts))
    assert told == [(1000, 2200), (2000, 2200), (2200, 2200)]
    assert len({run.id for run in plan.runs}) == 2200
    for part, kinds in (("data", 1), ("model", 1), ("optimizer", 2), ("stop", 1)):
        assert len({id(run.table[part]) for run in plan.runs}) == kinds, part
    tables = {id(run.table) for run in plan.runs}
    assert {id(task.payload["run"]) for task in JointPlan((plan,)).tasks()} == tables, (
        "tasks have no tables of their own"
    )
    for run in plan.runs[::1000]:
        assert run.config.run_id() == run.id
        assert run.config.model_dump(mode="json") == run.table


def test_a_planned_run_s_table_is_its_whole_configuration(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        """
[grid]
"data.subset_seed" = ["seed"]
"augmentation.names" = [["flip"]]
"stop.train_accuracy" = [0.9]
"schedule.kind" = ["cosine"]
label_smoothing = [0.1]
seed = [3, 4]
""",
    )
    for run, seed in zip(plan.runs, (3, 4), strict=True):
        config = run.config
        assert (config.run_id(), config.data.subset_seed) == (run.id, seed)
        assert json.loads(config.model_dump_json()) == run.table
        setting = config.model_dump(mode="json", exclude={"seed"})
        setting["data"]["subset_seed"] = "seed"  # repetitions of one setting, each on a subset of its own
        assert run.configuration == content_hash(setting)
    assert [one["configuration"] for one in plan.record()["runs"]] == [run.configuration for run in plan.runs]
    assert plan.runs[0].configuration == plan.runs[1].configuration
    assert "subset_seed" not in plan.axes


def test_a_subset_of_the_same_number_as_the_seed_is_a_setting_of_its_own(tmp_path: Path) -> None:
    plan = planned(
        tmp_path, '[grid]\n"data.subset_seed" = [3, 4]\n"augmentation.names" = [["flip"]]\nseed = [3, 4]\n'
    )
    assert len(plan.runs) == 4
    assert len({run.configuration for run in plan.runs}) == 2
    assert plan.axes == ("subset_seed",)
