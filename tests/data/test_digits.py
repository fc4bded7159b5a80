from __future__ import annotations

import torch

from sharpscope.data import DataConfig, Dataset, Graph, Split, load


def test_split_sizes_and_scale():
    digits = load("digits")
    assert (len(digits.train), len(digits.test), digits.validation) == (1437, 360, None)
    assert digits.train.inputs.shape[1:] == digits.input_shape == (1, 8, 8)
    assert digits.train.inputs.dtype == torch.float32
    assert digits.train.targets.dtype == torch.int64
    assert abs(float(digits.train.inputs.mean())) < 1e-5
    assert abs(float(digits.train.inputs.std()) - 1) < 1e-4
    assert abs(float(digits.test.inputs.mean())) > 1e-5  # scaled by the training images, not by its own
    assert set(digits.train.targets.tolist()) == set(range(10))


def test_the_same_seed_gives_the_same_data_whatever_the_global_state():
    first = load(DataConfig(name="digits", train_samples=100, validation_samples=30))
    torch.manual_seed(99)
    second = load(DataConfig(name="digits", train_samples=100, validation_samples=30))
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.test.targets, second.test.targets)
    third = load(DataConfig(name="digits", train_samples=100, subset_seed=1))
    assert not torch.equal(first.train.targets, third.train.targets)


def test_parts_do_not_overlap():
    digits = load(DataConfig(name="digits", validation_samples=237))
    assert digits.validation is not None
    assert [len(digits.train), len(digits.validation), len(digits.test)] == [1200, 237, 360]
    # All 1797 images differ (checked when the data set was added), so that rows identify images.
    unit = load(DataConfig(name="digits", validation_samples=237, pixels="unit"))
    assert unit.validation is not None
    rows = torch.cat([unit.train.inputs, unit.validation.inputs, unit.test.inputs]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == 1797


def test_unit_pixels():
    inputs = load(DataConfig(name="digits", pixels="unit")).train.inputs
    assert float(inputs.min()) == 0
    assert float(inputs.max()) == 1


def test_to_converts_floats_and_keeps_integers():
    graph = Graph(torch.ones(4, 2), torch.zeros(2, 3, dtype=torch.int64))
    split = Split(torch.arange(4), torch.ones(4, 1))
    data = Dataset("x", "regression", 1, (), split, None, split, "none", graph=graph).to("cpu", torch.float64)
    assert data.train.inputs.dtype == torch.int64
    assert data.train.targets.dtype == torch.float64
    assert data.graph is not None
    assert data.graph.features.dtype == torch.float64
    assert data.graph.edge_index.dtype == torch.int64
