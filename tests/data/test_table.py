"""Tables of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from sharpscope.data import DataConfig, load
from sharpscope.errors import DataError


@pytest.fixture
def table() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": draw.normal(170, 10, 50),
            "constant": 3.0,
            "adult": draw.random(50) > 0.3,
            "name": [f"n{i}" for i in range(50)],
            "kind": draw.choice(["b", "a", "c"], 50),
            "weight": draw.normal(70, 5, 50),
        }
    )


def config(table: pd.DataFrame, folder: Path, suffix: str = ".csv", **fields) -> DataConfig:
    path = folder / f"t{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path, index=False)
    return DataConfig(name="table", path=str(path), **fields)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_classes_are_numbered_in_their_order_and_inputs_standardised(table, tmp_path, suffix: str) -> None:
    data = load(config(table, tmp_path, suffix, target="kind"))
    assert (data.task, data.n_outputs, data.input_shape) == ("classification", 3, (4,))
    assert (len(data.train), len(data.test)) == (40, 10)
    inputs = data.train.inputs
    assert inputs.dtype == torch.float32
    assert torch.allclose(inputs.mean(0), torch.zeros(4), atol=1e-6)
    assert torch.allclose(inputs.std(0, unbiased=False), torch.tensor([1.0, 0.0, 1.0, 1.0]), atol=1e-6)
    whole = torch.cat([data.train.targets, data.test.targets])
    assert torch.bincount(whole).tolist() == table["kind"].value_counts().sort_index().tolist()
    assert "inputs height, constant, adult, weight; target kind" in data.notes[0]
    assert "Columns left out: name." in data.notes[1]


def test_a_column_of_numbers_is_a_regression_unless_said_otherwise(table, tmp_path) -> None:
    chosen = config(table, tmp_path, target="weight", columns=("height", "adult"), targets="standardised")
    data = load(chosen)
    assert (data.task, data.n_outputs, data.input_shape) == ("regression", 1, (2,))
    assert data.train.targets.shape == (40, 1)
    assert abs(float(data.train.targets.mean())) < 1e-6
    raw = load(config(table, tmp_path, target="weight"))
    assert float(raw.train.targets.mean()) == pytest.approx(70, abs=5)
    rings = table.assign(rings=[1, 2] * 25)
    assert load(config(rings, tmp_path, target="rings")).task == "regression"
    assert load(config(rings, tmp_path, target="rings", task="classification")).n_outputs == 2


def test_the_content_is_its_identity_and_the_path_is_not(table, tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (config(table, tmp_path / name, target="kind") for name in "ab")
    changed = config(table.assign(height=1.0), tmp_path / "b", target="kind")
    assert one.model_dump_json() == other.model_dump_json() != changed.model_dump_json()
    assert "path" not in one.model_dump()
    with pytest.raises(DataError, match="has changed since"):
        load(other)  # its file was written over
    without = DataConfig.model_validate(one.model_dump())
    assert without.digest == one.digest
    with pytest.raises(DataError, match="from its study file"):
        load(without)
    assert DataConfig(name="digits").model_dump().keys() == DataConfig(name="cora").model_dump().keys()
    assert "digest" not in DataConfig(name="digits").model_dump()  # runs made before keep their identity


@pytest.mark.parametrize(
    ("change", "fields", "words"),
    [
        ({}, {"target": "sort"}, "columns height, .*not 'sort'"),
        ({}, {"target": "kind", "columns": ("hight",)}, "'hight'"),
        (
            {"height": [None] + [1.0] * 49},
            {"target": "kind"},
            "'height' must hold a number in every row, row 1",
        ),
        ({}, {"target": "kind", "columns": ("name",)}, "row 1 holds 'n0'"),
        ({"kind": [None] + ["a"] * 49}, {"target": "kind"}, "row 1 is empty"),
        ({}, {"target": "name"}, "has 50 in 50 rows"),
        ({"kind": "a"}, {"target": "kind"}, "has 1 in 50 rows"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(table, tmp_path, change, fields, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(config(table.assign(**change), tmp_path, **fields))


def test_what_is_wrong_with_the_file_is_told(tmp_path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n1,"2\n')
    with pytest.raises(DataError, match="CSV or Parquet"):
        load(DataConfig(name="table", path=str(tmp_path / "t.csv"), target="a"))
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="CSV or Parquet"):
        load(DataConfig(name="table", path=str(tmp_path / "t.parquet"), target="a"))
    (tmp_path / "few.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="at least 5 rows"):
        load(DataConfig(name="table", path=str(tmp_path / "few.csv"), target="a"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "table", "target": "a"}, "needs its path"),
        ({"name": "table", "path": "nowhere.csv", "target": "a"}, "no such file"),
        ({"name": "table", "path": "t.xlsx", "target": "a"}, "ends in neither"),
        ({"name": "digits", "target": "a"}, "applies to table only"),
        ({"name": "cora", "neighbours": 3}, "applies to digits only"),
        ({"name": "digits", "neighbours": 0}, "greater than or equal to 1"),
    ],
)
def test_refuses_what_it_cannot_mean(fields, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DataConfig(**fields)


def test_digits_as_a_graph_of_nearest_images() -> None:
    plain = load(DataConfig(name="digits", train_samples=140))
    data = load(DataConfig(name="digits", train_samples=140, neighbours=3))
    assert data.graph is not None
    assert data.graph.features.shape == (1797, 64)
    assert torch.equal(data.graph.features[data.train.inputs].view(-1, 1, 8, 8), plain.train.inputs)
    assert torch.equal(data.train.targets, plain.train.targets)
    edges = data.graph.edge_index
    assert torch.equal(
        edges, torch.unique(torch.cat([edges, edges.flip(0)], dim=1), dim=1)
    )  # both ways, once
    assert not (edges[0] == edges[1]).any()
    assert torch.bincount(edges[0]).min() == 3
    node = int(data.train.inputs[5])
    distances = (data.graph.features - data.graph.features[node]).double().square().sum(1)
    distances[node] = torch.inf
    nearest = set(distances.argsort()[:3].tolist())
    assert nearest <= set(edges[1][edges[0] == node].tolist())
