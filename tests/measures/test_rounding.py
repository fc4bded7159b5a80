"""Rounding of weights: against a search over the grid, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpscope import InputError, Objective, measure
from sharpscope.measures.rounding import rounded, rounding_rise


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_weight_is_at_the_nearest_point_of_its_row_s_grid(bits: int) -> None:
    weight = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight[2] = 0.0
    found = rounded(weight, bits)
    most = 2 ** (bits - 1) - 1
    for row, moved in zip(weight.flatten(1), found.flatten(1), strict=True):
        grid = row.abs().max() / most * torch.arange(-most, most + 1)
        nearest = grid[(row[:, None] - grid).abs().argmin(1)]
        torch.testing.assert_close(moved, nearest)
    assert torch.equal(rounded(found, bits), found)  # what lies on the grid stays


def test_the_rise_is_that_of_a_rounded_copy_and_biases_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    x, y = torch.randn(30, 4).double(), torch.randint(3, (30,))
    obj = Objective(model, nn.functional.cross_entropy, (x, y))
    rise = rounding_rise(obj, bits=3)
    copy = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    copy.load_state_dict(model.state_dict())
    for layer in (copy[0], copy[2]):
        layer.weight.data = rounded(layer.weight.data, 3)
    expected = float(nn.functional.cross_entropy(copy(x), y)) - obj.loss()
    assert rise.value == pytest.approx(expected, rel=1e-9)
    last = rounding_rise(obj, bits=3, params="2.*")
    assert last.protocol["matrices"] == 1
    assert last.value != rise.value
    assert abs(rounding_rise(obj, bits=16).value) < 1e-6
    for options in ({"bits": 1}, {"params": "*.bias"}):
        with pytest.raises(InputError):
            measure(obj, [{"measure": "rounding_rise", **options}])
