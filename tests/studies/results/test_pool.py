"""One pool of several studies: each run once, and one name for two things told."""

from types import SimpleNamespace

import pandas as pd
import pytest

from sharpscope.errors import InputError
from sharpscope.studies.results import pool as module
from sharpscope.studies.results.pool import pool_stores


def tables(runs, values, axes=("lr",), objective="all samples", definition="trace"):
    settings = {"data": "digits", "model": "mlp", "optimizer": "sgd", "batch_size": 10, "seed": 0}
    table = pd.DataFrame({"run_id": runs, **settings, "lr": [0.1 * (i + 1) for i in range(len(runs))]})
    measures = pd.DataFrame({"run_id": runs, "measure": "trace", "definition": definition, "value": values})
    study = {"axes": list(axes), "objective": objective}
    return SimpleNamespace(runs=table, measures=measures, study=study)


def pooled(monkeypatch, *stores):
    monkeypatch.setattr(module, "collect_all", lambda store: store)
    return pool_stores(stores)


def test_a_run_of_two_studies_is_one(monkeypatch):
    found = pooled(
        monkeypatch, {"one": tables(["a", "b"], [1.0, 2.0])}, {"two": tables(["b", "c"], [2.0, 3.0])}
    )
    assert found.runs["run_id"].tolist() == ["a", "b", "c"]
    assert found.runs["study"].tolist() == ["one", "one", "two"]
    assert found.results()["trace"].tolist() == [1.0, 2.0, 3.0]
    assert found.notes == ()


def test_axes_are_what_varies_over_the_pool(monkeypatch):
    one, two = tables(["a", "b"], [1.0, 2.0]), tables(["c", "d"], [1.0, 2.0], axes=["lr", "rho"])
    two.runs["rho"], two.runs["batch_size"] = [0.1, 0.2], 20
    assert pooled(monkeypatch, {"one": one}).axes == ("lr",)
    assert pooled(monkeypatch, {"one": one, "two": two}).axes == ("lr", "batch_size", "rho")


def test_one_name_for_two_things_is_told(monkeypatch):
    one = tables(["a", "b"], [1.0, 2.0])
    (note,) = pooled(monkeypatch, {"one": one, "two": tables(["c"], [9.0], objective="100 samples")}).notes
    assert note.startswith("trace is not measured alike")
    (note,) = pooled(monkeypatch, {"one": one, "two": tables(["b"], [9.0])}).notes
    assert note == "trace has two values for 1 of the runs that several studies measured; the first is used."


def test_nothing_is_no_pool(monkeypatch):
    with pytest.raises(InputError, match="hold none yet"):
        pooled(monkeypatch, {"one": tables([], [])})
