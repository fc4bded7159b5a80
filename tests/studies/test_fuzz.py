"""Study files made at random end in a plan or in one sentence, and a plan's claims and figures can be drawn up.

SHARPSCOPE_FUZZ=10000 python -m pytest tests/studies/test_fuzz.py tests/cli/test_fuzz.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from sharpscope.errors import InputError
from sharpscope.studies import JointPlan, load_study, make_plan, write_report
from sharpscope.studies.file.library import open_study
from sharpscope.studies.plan.column_check import OUTCOMES
from sharpscope.studies.results.tables import Tables, _measures_table, _run_row, _runs_table
from studies.grammar import study_files

EXAMPLES = int(os.environ.get("SHARPSCOPE_FUZZ", "40"))
BASE = 'name = "odd"\n[run]\ndata = "digits"\nmodel = "mlp"\noptimizer = { name = "sgd", lr = 0.1 }\n'
BASE += "batch_size = 50\nstop = { epochs = 1 }\n[grid]\nseed = [0, 1]\noptimizer.lr = [0.1, 0.2]\n"
CLAIM = '[[claims]]\nid = "C"\nstatement = "s"\nkind = "trend"\ny = "gap"\ndirection = "rising"\n'
CORPUS = {
    # each of these once ended in a traceback, or was accepted and lost results at the end: words of the sentence
    "scales = 3\n" + BASE: "scales must be a table, received 3",
    "values = 3\n" + BASE: "values must be a table, received 3",
    BASE.replace('"odd"', "[]"): "name must be text, received []",
    BASE + '[[measures]]\nmeasure = "trace"\nwhere = 3\n': "where",
    BASE + "[[experiments]]\nid = 'a'\ncovers = 3\n": "covers must be a list of ids",
    BASE + f"deep = {'[' * 5000}{']' * 5000}\n": "nests hundreds",
    BASE + f"deep = {'[' * 60}{']' * 60}\n": "nested more than 32 deep",
    BASE.replace("seed = [0, 1]", f"seed = [{10**30}]"): "at most 64 bits",
    BASE.replace("seed = [0, 1]", f"seed = [{'9' * 5000}]"): "at most 64 bits",
    BASE.replace("0.2]", "inf]"): "must be a finite number, received inf",
    BASE.replace("[0, 1]", "[1979-05-27]"): "received the date 1979-05-27",
    BASE.replace('"odd"', '"o\\u001b[2Jd"'): "may hold no control character",
    BASE + f"{'k' * 300} = 1\n": "1 to 100 visible characters",
    BASE + CLAIM + 'x = "lr*(1/0)"\n': "must have a finite value",
    BASE + CLAIM + 'x = "lr*9**9**9**9"\n': "must have a finite value",
    BASE + CLAIM + "x = \"lr*'x'*999999999999\"\n": "an expression holds columns, numbers",
    BASE + '[[figures]]\nid = "f"\nx = "lr"\ny = "gap + 1/0"\n': "must have a finite value",
    BASE
    + '[[figures]]\nid = "f"\nx = "lr"\ny = "gap"\nline = "2/(lr"\n': "an expression holds columns, numbers",
    BASE + '[[measures]]\nmeasure = "trace"\nname = "gap"\n': "may not have the name of another column",
    BASE + '[[measures]]\nmeasure = "trace"\nname = "run_id"\n': "received 'run_id'",
    BASE + '[[measures]]\nmeasure = "trace"\nname = "lr"\n': "received 'lr'",
    BASE + '[[measures]]\nmeasure = "trace"\nname = "test_loss"\n': "received 'test_loss'",
    BASE
    + '[[measures]]\nmeasure = "trace"\n[[measures]]\nmeasure = "trace"\nname = "trace_stderr"\n': "_stderr'",
}


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_what_once_failed_is_refused_in_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(text)
    sentence = plan_or_sentence(tmp_path / "odd.toml")
    assert sentence is not None
    assert CORPUS[text] in sentence


@pytest.mark.parametrize(
    "axis", ["epochs", "status", "parameters", "seed", "lr", "train_loss", "study", "seconds"]
)
def test_an_axis_never_takes_the_name_of_another_column(axis: str, tmp_path: Path) -> None:
    text = BASE.replace('"mlp"', '{ name = "nets:build" }').replace(
        "seed = [0, 1]", f"model.options.{axis} = [1, 2]"
    )
    (tmp_path / "odd.toml").write_text(text)
    plan = make_plan(load_study(tmp_path / "odd.toml"))
    assert plan.axes == (f"model.options.{axis}", "lr")
    table = tables_of({**plan.record(), "tasks": {}}).results()
    assert sorted(table[f"model.options.{axis}"].unique()) == [1, 2]


def plan_or_sentence(file: Path) -> str | None:
    """Plan a file at every scale; return the sentence that refuses it, None where it is planned."""
    try:
        opened = open_study(file)
        for scale in opened.scales or (None,):
            for study in opened.studies(None, scale):
                plan = make_plan(study)
                json.dumps(plan.record(), allow_nan=False)
                assert JointPlan((plan,)).tasks()
    except InputError as error:
        sentence = str(error)
        assert sentence.startswith(str(file)), sentence
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", sentence), repr(sentence)
        assert len(sentence) < 2000, sentence
        return sentence
    return None


def tables_of(record: dict[str, Any]) -> Tables:
    """Return the tables of a study as if it had been run, with random results."""
    draw = np.random.default_rng(0)
    runs, history = [], []
    for planned in record["runs"]:
        outcome = {
            "status": "finished",
            "stop_reason": "epochs",
            "epochs": 2,
            "parameters": 9,
            "train_samples": 50,
        }
        outcome |= dict(zip(OUTCOMES, draw.uniform(0.1, 1, len(OUTCOMES)), strict=True))
        named = {"name": "digits"}
        config = {
            "batch_size": 10,
            "data": named,
            "model": named,
            "optimizer": {"name": "sgd", "lr": 0.1},
            "seed": 0,
        }
        for key, value in planned["settings"].items():
            if key in ("lr", "optimizer", "data", "model"):
                config["optimizer"] = {"name": "sgd", "lr": value if key == "lr" else 0.1}
            elif key in config:
                config[key] = value
        runs.append(_run_row(planned, config, outcome))
        for epoch in (1, 2):
            history.append(
                {"run_id": planned["id"], "epoch": epoch, "epoch_lr": 0.1, "epoch_loss": draw.uniform()}
            )
            history[-1] |= {"epoch_accuracy": 0.5, "seconds": 1.0}
            history[-1] |= dict(zip(OUTCOMES[:6], draw.uniform(0.1, 1, 6), strict=True))
    measures = [
        {"run_id": one["run"], "measure": one["label"], "definition": one["of"], "value": draw.uniform()}
        for one in record["measures"]
    ]
    tracks = [
        {"run_id": one["run"], "measure": one["label"], "epoch": epoch, "value": draw.uniform()}
        for one in record["tracks"]
        for epoch in (1, 2)
    ]
    views = {kind: pd.DataFrame() for kind in ("landscapes", "surfaces", "audits", "histograms")}
    return Tables(
        record,
        _runs_table(runs, record["axes"]),
        _measures_table(measures),
        pd.DataFrame(history),
        (),
        {},
        pd.DataFrame(tracks),
        views,
        {},
    )


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(text=study_files())
def test_a_study_file_ends_in_a_plan_or_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.toml"
    file.write_text(text, encoding="utf-8", newline="")
    if plan_or_sentence(file) is None:
        opened = open_study(file)
        study = opened.studies(None, opened.scales[0] if opened.scales else None)[0]
        record = json.loads(json.dumps(make_plan(study).record()))
        write_report(tables_of({"key": "", **record, "tasks": {}}), file.parent / "report")
