from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from oracles.dense import dense
from oracles.residual import images, residual
from problems import PROBLEMS
from sharpscope import InputError, Objective
from sharpscope.measures import find_rescalings, normalised_sharpness, rescale
from sharpscope.measures.normalised_sharpness import minimised

QUADRATIC, TANH = (
    next(p for p in PROBLEMS if p.name == name) for name in ("quadratic, multiple eigenvalues", "mlp tanh")
)


@pytest.mark.parametrize("seed", range(4))
def test_the_minimum_over_scales_is_scipys(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    h, w = (torch.rand(3, 5, generator=g, dtype=torch.float64) ** 3 for _ in range(2))

    def value(x: np.ndarray) -> float:
        ab = np.exp(x[:3, None] + x[None, 3:])
        return float((h.numpy() * ab + w.numpy() / ab).sum())

    best = minimize(value, np.zeros(8), method="BFGS", options={"gtol": 1e-9}).fun
    assert minimised(h, w) == pytest.approx(best, rel=1e-6)
    assert minimised(h, w) < 0.999 * value(np.zeros(8))
    assert minimised(4 * h, 9 * w) == pytest.approx(6 * minimised(h, w), rel=1e-8)


def test_rows_and_columns_without_weight_or_curvature_cost_nothing() -> None:
    h, w = torch.ones(2, 2).double(), torch.ones(2, 2).double()
    w[1] = 0
    assert minimised(h, w) == pytest.approx(minimised(h[:1], w[:1]), rel=1e-9)
    assert minimised(torch.zeros(2, 2), w) == 0.0


def test_with_an_exact_diagonal_it_is_exact() -> None:
    obj = QUADRATIC.objective()
    h = dense(obj)[2].diagonal()
    e = normalised_sharpness(obj, 8)
    assert e.value == pytest.approx(minimised(h[None], obj.flat().square()[None]), rel=1e-9)
    assert e.stderr == pytest.approx(0, abs=1e-9)
    assert e.value == pytest.approx(2 * float((h.sqrt() * obj.flat().abs()).sum()), rel=1e-6)


def test_many_probes_come_near_the_exact_value() -> None:
    obj = TANH.objective()
    entries, weights = (obj.layout.split(v) for v in (dense(obj)[2].diagonal(), obj.flat()))
    exact = sum(
        minimised(entries[n].clamp_min(0), weights[n].square()) for n in entries if entries[n].ndim > 1
    )
    e = normalised_sharpness(obj, 1600)
    assert e.value == pytest.approx(exact, rel=0.05)


def test_it_follows_rescalings_of_every_channel() -> None:
    network = residual()
    found = find_rescalings(network)
    other = rescale(network, found, [torch.rand(r.channels).double() * 3 + 0.2 for r in found])
    values = [
        normalised_sharpness(Objective(m, nn.functional.cross_entropy, images()), 16).value
        for m in (network, other)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_vectors_alone_are_refused() -> None:
    with pytest.raises(InputError, match="weight matrices"):
        normalised_sharpness(TANH.objective(params="*.bias"))
