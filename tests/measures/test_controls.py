from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from oracles.residual import images, residual
from problems import PROBLEMS, data, settle
from sharpscope import InputError, Objective
from sharpscope.measures import distance_from_initialisation, find_rescalings, margin, path_norm, rescale
from sharpscope.measures import weight_norm as norm_of_weights

MLP = next(p for p in PROBLEMS if p.name == "mlp relu")


def test_the_norm_and_the_distance_by_hand(tmp_path: Path) -> None:
    obj = MLP.objective()
    theta = obj.flat()
    assert norm_of_weights(obj).value == pytest.approx(float(theta.square().sum().sqrt()), rel=1e-12)
    start = {name: p.detach() + 0.5 for name, p in obj.model.named_parameters()}
    save_file(start, tmp_path / "start.safetensors")
    other = MLP.objective().model
    other.load_state_dict(start)
    known = 0.5 * obj.size**0.5
    for initial in (start, other, theta + 0.5, str(tmp_path / "start.safetensors")):
        assert distance_from_initialisation(obj, initial).value == pytest.approx(known, rel=1e-12)
    for bad in (None, {}, theta[:-1], str(tmp_path / "none.safetensors"), {**start, "2.bias": torch.ones(4)}):
        with pytest.raises(InputError):
            distance_from_initialisation(obj, bad)


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5, 1.0])
def test_the_margin_is_a_quantile_over_all_samples(quantile: float) -> None:
    obj = MLP.objective()
    x, y = obj.evaluator.tensors()
    logits = obj.model(x).detach().numpy()
    margins = [row[k] - max(np.delete(row, k)) for row, k in zip(logits, y.tolist(), strict=True)]
    assert margin(obj, quantile).value == pytest.approx(np.quantile(margins, quantile), rel=1e-12)
    assert margin(obj).cost["losses"] == 1
    with pytest.raises(InputError, match="quantile"):
        margin(obj, 1.5)


def test_the_path_norm_sums_over_every_path() -> None:
    torch.manual_seed(0)
    sizes = (3, 4, 2, 3)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).double()
    total = 0.0
    for start in range(4):  # paths from the inputs, and from every layer's biases
        ranges = [range(n) for n in sizes] if start == 0 else [range(n) for n in sizes[start:]]
        for path in itertools.product(*ranges):
            weights = [layer.weight for layer in layers[start:]]
            product = 1.0 if start == 0 else float(layers[start - 1].bias[path[0]].detach()) ** 2
            for weight, (a, b) in zip(weights, itertools.pairwise(path), strict=True):
                product *= float(weight[b, a].detach()) ** 2
            total += product
    obj = Objective(model, F.cross_entropy, data(9, 3))
    assert path_norm(obj).value == pytest.approx(total**0.5, rel=1e-10)


def test_batch_normalisation_counts_as_its_affine_map_and_rescalings_change_nothing() -> None:
    x, y = data(30, 4)
    torch.manual_seed(0)
    layers = nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)
    model = settle(nn.Sequential(*layers).double(), x).eval()
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 2)
        model[1].bias.uniform_(-1, 1)
        factor = model[1].weight / (model[1].running_var + model[1].eps).sqrt()
        fused = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
        fused[0].weight.copy_(model[0].weight * factor[:, None])
        fused[0].bias.copy_(model[1].bias - model[1].running_mean * factor)
        fused[2].load_state_dict(model[3].state_dict())
    torch.testing.assert_close(fused(x), model(x))
    values = [path_norm(Objective(m, F.cross_entropy, (x, y))).value for m in (model, fused)]
    assert values[0] == pytest.approx(values[1], rel=1e-10)
    network = residual()
    found = find_rescalings(network)
    other = rescale(network, found, [torch.rand(group.channels).double() + 0.2 for group in found])
    values = [path_norm(Objective(m, F.cross_entropy, images())).value for m in (network, other)]
    assert values[0] == pytest.approx(values[1], rel=1e-10)


def test_networks_without_paths_are_refused() -> None:
    x, y = data(9, 4)
    for layer in (nn.Tanh(), nn.LayerNorm(5), nn.GELU(), nn.BatchNorm1d(5, track_running_stats=False)):
        model = nn.Sequential(nn.Linear(4, 5), layer, nn.Linear(5, 3)).double()
        with pytest.raises(InputError, match="path_norm needs"):
            path_norm(Objective(model, F.cross_entropy, (x, y)))
