from __future__ import annotations

import pytest
import torch
from scipy.stats import kurtosis
from torch import nn

from problems import PROBLEMS, data
from sharpscope import InputError, Objective
from sharpscope.measures import weight_histogram, weight_kurtosis


def network() -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 500), nn.ReLU(), nn.Linear(500, 3)).double()
    with torch.no_grad():
        model[1].weight.normal_()
        model[3].weight.copy_(torch.distributions.StudentT(5.0).sample((3, 500)))
    return Objective(model, nn.functional.cross_entropy, data(9, 4))


def test_it_is_scipys_pearson_kurtosis() -> None:
    obj = network()
    for name in ("1.weight", "3.weight"):
        entries = dict(obj.model.named_parameters())[name].detach().flatten().numpy()
        e = weight_kurtosis(obj, name)
        assert e.value == pytest.approx(kurtosis(entries, fisher=False), rel=1e-12)
        assert (e.protocol["parameter"], e.protocol["entries"]) == (name, len(entries))
    assert weight_kurtosis(obj, "1.weight").value == pytest.approx(3, abs=0.3)
    assert weight_kurtosis(obj, "3.weight").value > 4  # heavy tails


def test_first_is_the_first_weight_matrix_or_kernel() -> None:
    assert weight_kurtosis(network()).protocol["parameter"] == "1.weight"
    convolution = next(p for p in PROBLEMS if p.name == "convolution").objective()
    assert weight_kurtosis(convolution).protocol["parameter"] == "1.weight"


def test_it_is_taken_at_the_measured_point() -> None:
    obj = network()
    moved = obj.at(obj.flat() ** 3)
    entries = dict(obj.model.named_parameters())["1.weight"].detach().flatten().numpy() ** 3
    assert weight_kurtosis(moved).value == pytest.approx(kurtosis(entries, fisher=False), rel=1e-12)


def test_a_histogram_counts_every_entry_once() -> None:
    obj = network()
    found = weight_histogram(obj, "3.weight", bins=41)
    counts, edges = found.counts, found.edges
    assert found.parameter == "3.weight"
    assert counts.sum() == 1500
    assert len(edges) == 42
    assert edges[0] == -edges[-1]
    weights = dict(obj.model.named_parameters())["3.weight"].detach()
    assert counts[20] == int((weights.abs() < edges[-1] / 41).sum())  # the middle bin is centred on zero
    assert weight_histogram(obj, "3.weight", bins=41, limit=100.0).counts.max() > counts.max()


@pytest.mark.parametrize("arguments", [{"bins": 0}, {"limit": 0.01}, {"limit": float("nan")}])
def test_bad_bins(arguments: dict) -> None:
    with pytest.raises(InputError, match="bins"):
        weight_histogram(network(), **arguments)


def test_a_parameter_that_is_not_there_or_does_not_vary() -> None:
    with pytest.raises(InputError, match=r"1\.weight"):
        weight_kurtosis(network(), "1.wieght")
    with pytest.raises(InputError, match="differ"):
        weight_kurtosis(network(), "0.weight")
