"""One short run on each data set: trains and measures. Sets whose files are not here are skipped."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from in_process import InThisProcess
from sharpscope.studies import collect, load_study, make_plan, run_plan, validate_plan
from sharpscope.sweep import Store

RUNS = {
    "digits": 'data = "digits"\nmodel = "mlp"\nbatch_size = 64',
    "fashion_mnist": 'data = { name = "fashion_mnist", train_samples = 1000, test_samples = 500 }\n'
    'model = "lenet5"\nbatch_size = 64',
    "cifar10": 'data = { name = "cifar10", train_samples = 500, test_samples = 200 }\n'
    'model = { name = "vgg11", options = { width = 0.25 } }\nbatch_size = 50',
    "abalone": 'data = "abalone"\nmodel = "fcnn_hammoud2023"\nbatch_size = 64',
    "cora": 'data = "cora"\nmodel = "gat"\nbatch_size = 64',
}


@pytest.mark.parametrize("name", RUNS)
def test_one_short_run_trains_and_measures(name: str, tmp_path: Path) -> None:
    if name != "digits" and "SHARPSCOPE_DATA" not in os.environ:
        pytest.skip("SHARPSCOPE_DATA is not set")
    if name == "cora":
        pytest.importorskip("torch_geometric")
    (tmp_path / "s.toml").write_text(
        f'name = "{name}"\n[run]\n{RUNS[name]}\n'
        'optimizer = { name = "sgd", lr = 0.01 }\nstop = { epochs = 2 }\n[objective]\nsamples = 128\n'
        '[[measures]]\nmeasure = "lambda_max"\ntol = 0.05\n'
        '[[measures]]\nmeasure = "trace"\nsamples = 2\n'
        '[[measures]]\nmeasure = "average_direction"\nradius = 0.5\nsamples = 4\n'
        '[[measures]]\nmeasure = "worst_case"\nrestarts = 2\n'
    )
    plan = make_plan(load_study(tmp_path / "s.toml"))
    validate_plan(plan)
    store = Store(tmp_path / "store")
    assert run_plan(plan, store, executor=InThisProcess(store.root)).failed == 0
    tables = collect(store)
    run = tables.runs.iloc[0]
    assert run["status"] == "finished"
    assert math.isfinite(run["test_loss"])
    assert math.isnan(run["test_accuracy"]) == (name == "abalone")
    assert tables.measures["value"].notna().all()
    assert tables.notes[0]
