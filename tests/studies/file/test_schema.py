from __future__ import annotations

from pathlib import Path

import pytest

from sharpscope import InputError
from sharpscope.studies import JointPlan, load_study, make_plan
from sharpscope.studies.tasks.runs import build_objective

BASE = """
name = "small"
[run]
data = {{ name = "digits", train_samples = 100 }}
model = {{ name = "mlp", options = {{ hidden = [8] }} }}
optimizer = {{ name = "sgd", lr = 0.1 }}
batch_size = 32
stop = {{ epochs = 2 }}
{rest}
"""


def plan(tmp_path: Path, rest: str = "", base: str = BASE):
    file = tmp_path / "study.toml"
    file.write_text(base.format(rest=rest))
    return make_plan(load_study(file))


def test_a_grid_is_the_union_of_its_blocks_without_duplicates(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        """
        [[grid]]
        "optimizer.lr" = [0.1, 0.2]
        seed = [0, 1]
        [[grid]]
        batch_size = [32, 64]
        """,
    )
    assert [(r.settings["lr"], r.settings["batch_size"], r.config.seed) for r in made.runs] == [
        (0.1, 32, 0), (0.1, 32, 1), (0.2, 32, 0), (0.2, 32, 1), (0.1, 64, 0),
    ]  # fmt: skip
    assert made.axes == ("lr", "batch_size")
    assert len({r.configuration for r in made.runs}) == 3


def test_bare_and_quoted_dots_mean_the_same_and_cases_change_together(tmp_path: Path) -> None:
    quoted = plan(tmp_path, '[grid]\n"optimizer.lr" = [0.1, 0.2]\n"model.options.hidden" = [[4], [8, 8]]')
    bare = plan(tmp_path, "[grid]\noptimizer.lr = [0.1, 0.2]\nmodel.options.hidden = [[4], [8, 8]]")
    assert [r.id for r in quoted.runs] == [r.id for r in bare.runs]
    assert len(quoted.runs) == 4
    cases = plan(
        tmp_path,
        "[[grid.cases]]\nbatch_size=10\noptimizer.lr=0.01\n[[grid.cases]]\nbatch_size=20\noptimizer.lr=0.02",
    )
    assert [(r.config.batch_size, r.config.optimizer.lr) for r in cases.runs] == [(10, 0.01), (20, 0.02)]


def test_ids_depend_on_the_science_alone(tmp_path: Path) -> None:
    text = '[[measures]]\nmeasure = "trace"\n'
    a, b = plan(tmp_path, text), plan(tmp_path, text + 'name = "tr"')
    assert [m.id for m in a.measures] == [m.id for m in b.measures]  # a label is no part of a measure
    joint = JointPlan((a,))
    far, near = joint.tasks("/somewhere", "cuda"), joint.tasks(None, "cpu")
    assert [t.id for t in far] == [t.id for t in near]
    other = plan(tmp_path, text + "samples = 10")
    assert a.measures[0].id != other.measures[0].id
    assert a.runs[0].id == other.runs[0].id
    subset = plan(tmp_path, text + "[objective]\nsamples = 50")
    assert subset.measures[0].id != a.measures[0].id


def test_a_learning_rate_step_is_each_runs_own_and_seeds_follow_the_run(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        '[grid]\noptimizer.lr=[0.1,0.2]\nseed=[3]\n[[measures]]\nmeasure="worst_case"\nstep_size="learning_rate"',
    )
    assert [(m.spec["step_size"], m.spec["seed"]) for m in made.measures] == [(0.1, 3), (0.2, 3)]


def test_the_quickstart_is_a_flat_study_with_several_measures() -> None:
    made = make_plan(load_study("quickstart"))
    assert len(made.runs) >= 24
    assert len({m.label for m in made.measures}) >= 5


@pytest.mark.parametrize(
    ("rest", "sentence"),
    [
        ("[grid]\noptimizer.lr = []", "lists no values"),
        ("[grid]\noptimizer.lr = 0.1", "lists its values"),
        ("[grid]\noptimizer.lr = [nan]", "nan"),
        ("[grid]\noptimizer.rate = [0.1]", "rate"),
        ("[grid]\nmodel.name = ['mpl']", "mpl"),
        ("measures = 3", "measures"),
        ("[[measures]]\nmeasure = 'flatness'", "flatness"),
        ("[[measures]]\nmeasure = 'trace'\nradius = 1", "radius"),
        ("[[measures]]\nmeasure = 'trace'\n[[measures]]\nmeasure='trace'\nsamples=9", "given twice"),
        ("[objective]\npart = 'validation'", "part"),
        ("[objectiv]\npart = 'train'", "objectiv"),
        ("[grid]\ncases = 4", "list of tables"),
    ],
)
def test_broken_studies_give_one_sentence_naming_file_and_key(
    tmp_path: Path, rest: str, sentence: str
) -> None:
    text = f"{rest}\n{BASE.format(rest='')}" if not rest.startswith("[") else BASE.format(rest=rest)
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(InputError) as raised:
        make_plan(load_study(tmp_path / "study.toml"))
    message = str(raised.value)
    assert sentence in message
    assert "study.toml" in message
    assert "\n" not in message


def test_a_file_that_is_missing_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quickstart"):
        load_study(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("name = [")
    with pytest.raises(InputError, match=r"bad\.toml.*TOML"):
        load_study(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_study(tmp_path / "binary.toml")
    with pytest.raises(InputError, match="cannot be read"):
        load_study(tmp_path)


def test_the_objective_is_the_declared_subset() -> None:
    import torch

    from sharpscope.data import load
    from sharpscope.models import build
    from sharpscope.studies import ObjectiveConfig

    dataset = load("digits")
    model = build("mlp", dataset, seed=0, hidden=[8])
    whole = build_objective(model, dataset, None, ObjectiveConfig())
    assert whole.n_samples == len(dataset.train)
    few, more = (build_objective(model, dataset, None, ObjectiveConfig(samples=n)) for n in (50, 80))
    x_few, x_more = (next(iter(o.evaluator.batches))[0] for o in (few, more))
    assert torch.equal(x_few, x_more[:50])  # a smaller subset is the larger one's beginning
    assert not torch.equal(x_few, dataset.train.inputs[:50])
    test = build_objective(model, dataset, None, ObjectiveConfig(part="test"))
    assert test.n_samples == len(dataset.test)
    cut = build_objective(model, dataset, None, ObjectiveConfig(mode="train", batch_size=100))
    assert [len(x) for x, _ in cut.evaluator.batches] == [100] * 14 + [37]
