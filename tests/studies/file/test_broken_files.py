"""Whatever a study file gets wrong: one clear sentence with the file, the line and the key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sharpscope import InputError
from sharpscope.studies import load_study, make_plan

EXAMPLE = Path(__file__).parents[3] / "examples" / "own_study"
TEXT = (EXAMPLE / "study.toml").read_text(encoding="utf-8")

CASES = {
    # what is replaced, by what; the text whose line must be named, and words of the sentence
    "unknown table": ("[grid]", "[gird]", "[gird]", ("gird", "perhaps grid")),
    "unknown key of a run": ("options = {", "option = {", "option = {", ("run.model.option", "perhaps options")),
    "text for a number": ("epochs = 200", 'epochs = "200"', "epochs =", ("run.stop.epochs", "'200'")),
    "grid that lists nothing": ("seed = [0, 1, 2]", "seed = 3", "seed =", ("'seed' is 3", "write [3]")),
    "value in a grid": ("0.4, 0.8]", '0.4, "fast"]', "optimizer.lr =", ("run.optimizer.lr", "'fast'")),
    "data set": ('name = "table"', 'name = "tabel"', "data =", ("run.data.name", "digits", "'tabel'")),
    "path of a table": ("spirals.csv", "spiral.csv", "data =", ("run.data", "no such file", "spiral.csv")),
    "measure": ('= "lambda_max"\n\n', '= "lambda_mx"\n\n', '"lambda_mx"', ("measure must be one of", "'lambda_mx'")),
    "option of a measure": (
        '= "lambda_max"\n\n',
        '= "lambda_max"\ntolerance = 1\n\n',
        "tolerance",
        ("lambda_max takes the options tol", "'tolerance'"),
    ),
    "runs of a measure": (
        '= "lambda_max"\n\n',
        '= "lambda_max"\nwhere = { lr = 0.3 }\n\n',
        "where =",
        ("no run has 'lr' = 0.3", "0.05"),
    ),
    "kind of a claim": ('kind = "trend"', 'kind = "tendency"', "kind =", ("'flatter'", "trend, flat", "'tendency'")),
    "key of a claim": ('"falling"', '"down"', "direction =", ("'flatter'", "direction must be", "'down'")),
    "missing key of a claim": ('direction = "falling"', "", "[[claims]]", ("'flatter'", "direction is missing")),
    "column of a claim": ('y = "lambda_max"\ndir', 'y = "sharp"\ndir', 'y = "sharp"', ("'sharp'", "lambda_max")),
    "scale of a figure": ('x_scale = "log"', 'x_scale = "logarithmic"', "x_scale =", ("figures.0.x_scale", "'log'")),
    "name of what a figure does not draw": (
        'line = "2/lr"',
        'names = { lambda = "curvature" }',
        "names =",
        ("figures.0.names: names must be of what the figure draws: lr, lambda_max; take out lambda", "{'lambda'"),
    ),
    "named value": ("batch_size = 16", 'batch_size = "$small"', "batch_size =", ("run.batch_size", "'$small'")),
    "scale of a study": ("[grid]", "[scales.tiny]\nrun.seed = 1\n[grid]", "[scales.tiny]", ("smoke", "'tiny'")),
    "track": ("[[figures]]", '[[tracks]]\nmeasure = "trace"\nevery = 0\n[[figures]]', "every", ("tracks.0.every",)),
    "ends of a line": (
        "[[figures]]",
        '[[landscapes]]\nname = "line"\na = { lr = 0.05 }\nb = { lr = 0.07 }\n[[figures]]',
        "b = {",
        ("landscapes", "'lr' = 0.07"),
    ),
    "no TOML": ("[grid]", "[grid", None, ("TOML", "line 11")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_names_file_line_and_key(case: str, tmp_path: Path) -> None:
    old, new, at, words = CASES[case]
    assert TEXT.count(old) >= 1
    broken = TEXT.replace(old, new, 1)
    shutil.copy(EXAMPLE / "spirals.csv", tmp_path)
    (tmp_path / "study.toml").write_text(broken, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        make_plan(load_study(tmp_path / "study.toml"))
    message = str(raised.value)
    assert "\n" not in message
    assert "study.toml" in message
    for word in words:
        assert word in message
    if at is not None:
        line = next(
            i for i, text in enumerate(broken.splitlines(), 1) if text.strip().startswith(at) or at in text
        )
        assert f"line {line}:" in message, message


def test_in_an_experiment_the_line_is_that_of_the_layer_that_says_it(tmp_path: Path) -> None:
    from studies.mini_paper import MINI

    broken = MINI.replace("run.stop.epochs = 4", "run.stop.epochs = -4")
    (tmp_path / "mini.toml").write_text(broken)
    with pytest.raises(InputError, match="epochs") as raised:
        make_plan(load_study(f"{tmp_path / 'mini.toml'}/fig1", "smoke"))
    line = broken.splitlines().index("run.stop.epochs = -4") + 1
    assert f"line {line}: run.stop.epochs" in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("batch_size = 16", "batch_size = 1000", "batch_size", "training set of 320 samples"),
        (
            "[grid]",
            "[objective]\nsamples = 1000\n[grid]",
            "samples =",
            "objective.samples must be at most the 320 train",
        ),
        ('"network:build"', '"netwrk:build"', "model =", "cannot be imported"),
        ("train_loss = 0.2", "train_accuracy = 0.9", "stop =", "a regression has no accuracy"),
    ],
)
def test_what_only_the_data_show_is_told_before_anything_runs(
    old: str, new: str, at: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharpscope.studies import validate_plan

    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    text = TEXT.replace(old, new)
    if "accuracy" in new:
        text = text.replace('target = "arm", columns = ["x", "y"]', 'target = "radius", columns = ["x", "y"]')
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    plan = make_plan(load_study("study.toml"))
    with pytest.raises(InputError, match=words) as raised:
        validate_plan(plan)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if row.startswith(at))
    assert str(raised.value).startswith(f"study.toml, line {line}: ")
