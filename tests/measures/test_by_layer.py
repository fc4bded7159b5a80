"""A measure of every layer, against the blocks of a dense Hessian."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharpscope import InputError, Objective
from sharpscope.measures.by_layer import by_layer


@pytest.fixture(scope="module")
def obj() -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return Objective(model, F.cross_entropy, (torch.randn(30, 4).double(), torch.randint(3, (30,))))


@pytest.fixture(scope="module")
def blocks(obj: Objective) -> dict[str, torch.Tensor]:
    rows = torch.stack([obj.hvp(row) for row in torch.eye(obj.size, dtype=torch.float64)])
    found, start = {}, 0
    for layer in ("0", "2", "4"):
        size = sum(
            n for name, n in zip(obj.layout.names, obj.layout.sizes, strict=False) if name.startswith(layer)
        )
        found[layer] = rows[start : start + size, start : start + size]
        start += size
    return found


@pytest.mark.parametrize(
    ("of", "options", "exact"),
    [
        ("lambda_max", {"tol": 1e-6}, lambda block: torch.linalg.eigvalsh(block)[-1]),
        ("lambda_min", {"tol": 1e-6}, lambda block: torch.linalg.eigvalsh(block)[0]),
        ("spectral_norm", {"tol": 1e-6}, lambda block: torch.linalg.eigvalsh(block).abs().max()),
    ],
)
def test_values_are_those_of_the_blocks(obj: Objective, blocks: dict, of: str, options: dict, exact) -> None:
    e = by_layer(obj, of, options)
    values = {layer: float(exact(block)) for layer, block in blocks.items()}
    assert e.protocol["values"] == pytest.approx(values, rel=1e-4)
    found: Any = e.protocol["values"]
    assert e.value == max(found.values())
    assert e.protocol["layer"] == max(values, key=lambda layer: values[layer])


def test_traces_of_all_layers_come_from_the_same_products(obj: Objective, blocks: dict) -> None:
    before = obj.cost.products
    e = by_layer(obj, samples=400)
    assert obj.cost.products - before == 400
    low, high = e.interval(0.999)
    exact = {layer: float(block.trace()) for layer, block in blocks.items()}
    assert low <= exact[str(e.protocol["layer"])] <= high
    found: Any = e.protocol["values"]
    errors: Any = e.protocol["errors"]
    for layer, value in exact.items():
        assert abs(found[layer] - value) < 4 * errors[layer]
    assert e.cost["products"] == 400


def test_a_measure_that_takes_no_part_of_the_parameters_is_refused(obj: Objective) -> None:
    for of in ("gradient_norm", "by_layer", "no such"):
        with pytest.raises(InputError):
            by_layer(obj, of)
