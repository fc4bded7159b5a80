"""The five data sets themselves, where SHARPSCOPE_DATA names a folder that holds them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from sharpscope.data import NAMES, DataConfig, available, load
from sharpscope.data.config import TEXTS

FOLDER = os.environ.get("SHARPSCOPE_DATA")
needs_data = pytest.mark.skipif(not FOLDER, reason="SHARPSCOPE_DATA is not set")


def test_available_names_every_set_without_any_file():
    infos = available()
    assert tuple(info.name for info in infos) == NAMES
    assert infos[0].found
    assert "1797 images" in infos[0].sizes
    texts = [info for info in infos if info.name in TEXTS]
    assert all(info.found for info in texts)
    assert all(
        not info.found and info.problem and "fetched on first use" in info.problem
        for info in infos[1:]
        if info not in texts
    )


@needs_data
def test_available_gives_the_sizes_within_a_second():
    start = time.perf_counter()
    infos = available(FOLDER)
    assert time.perf_counter() - start < 1
    assert [info.sizes for info in infos if info.name not in TEXTS] == [
        "1797 images, split 1437/360 by seed",
        "60000/10000 images",
        "50000/10000 images",
        "4177 rows, split 3341/836 by seed",
        "2708 nodes, 140/500/1000",
    ]
    assert all(info.found for info in infos)


def test_importing_and_listing_does_not_import_torch():
    code = "import sys; from sharpscope import data; data.available(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_data
def test_fashion_mnist():
    data = load(DataConfig(name="fashion_mnist", train_samples=2000, validation_samples=500), data_dir=FOLDER)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (2000, 500, 10_000)
    assert data.input_shape == tuple(data.train.inputs.shape[1:]) == (1, 28, 28)
    assert torch.bincount(data.test.targets).tolist() == [1000] * 10
    assert data.test.targets[:5].tolist() == [9, 2, 1, 1, 6]


@needs_data
def test_cifar10_classes_are_balanced_and_the_encoding_is_told():
    data = load(DataConfig(name="cifar10", train_samples=500, pixels="unit"), data_dir=FOLDER)
    assert torch.bincount(data.test.targets).tolist() == [1000] * 10
    assert data.input_shape == (3, 32, 32)
    info = next(info for info in available(FOLDER) if info.name == "cifar10")
    assert any("JPEG" in note for note in data.notes) == any("JPEG" in note for note in info.notes)


@needs_data
def test_abalone():
    data = load("abalone", data_dir=FOLDER)
    assert (len(data.train), len(data.test)) == (3341, 836)
    rings = torch.cat([data.train.targets, data.test.targets])
    assert float(rings.mean()) == pytest.approx(9.933684, abs=1e-5)  # the UCI's own table of the data set
    assert data.notes == ()


@needs_data
def test_cora_is_the_planetoid_split():
    data = load("cora", data_dir=FOLDER)
    assert data.graph is not None
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (140, 500, 1000)
    assert torch.bincount(data.train.targets).tolist() == [20] * 7
    assert data.train.inputs.tolist() == list(range(140))
    assert data.test.inputs.tolist() == list(range(1708, 2708))
    assert data.graph.features.shape == (2708, 1433)
    assert int(data.graph.features.sum()) == 49_216  # non-zero words in all, as published with the data
    assert data.graph.edge_index.shape == (2, 10_556)
    assert torch.equal(data.graph.features.unique(), torch.tensor([0.0, 1.0]))
    neighbours_agree = _labels(data)[data.graph.edge_index]
    known = (neighbours_agree >= 0).all(0)
    agreement = (neighbours_agree[0] == neighbours_agree[1])[known].float().mean()
    assert float(agreement) > 0.7  # homophily: would be 0.18 if labels or nodes were out of order
    normalised = load(DataConfig(name="cora", rows="normalised"), data_dir=FOLDER)
    assert normalised.graph is not None
    np.testing.assert_allclose(normalised.graph.features.sum(1), 1, atol=1e-5)


def _labels(data):
    labels = torch.full((2708,), -1)
    for split in (data.train, data.validation, data.test):
        labels[split.inputs] = split.targets
    return labels
