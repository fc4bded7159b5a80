"""Which parameters are measured, and the flat vector that they make."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from problems import TiedWeight
from sharpscope.errors import InputError
from sharpscope.objective.parameters import Layout, layout_of, select


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))


def test_trainable_parameters_are_measured_and_tied_ones_once() -> None:
    model = TiedWeight()
    model.head.bias.requires_grad_(False)
    assert list(select(model)) == ["first.weight", "first.bias", "second.bias", "head.weight"]


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ("0.*", ["0.weight", "0.bias"]),
        (["2.bias", "0.b*"], ["0.bias", "2.bias"]),  # in the model's order, whatever the selection's
        (lambda name, p: p.ndim == 2, ["0.weight", "2.weight"]),
    ],
)
def test_a_selection_is_by_name_pattern_or_predicate(selection: Any, names: list[str]) -> None:
    assert list(select(_model(), selection)) == names


def test_a_frozen_parameter_is_measured_where_it_is_named() -> None:
    model = _model().requires_grad_(False)
    assert list(select(model, "2.weight")) == ["2.weight"]
    with pytest.raises(InputError, match="matched none of 4"):
        select(model)


def test_what_names_nothing_or_is_no_real_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"received '3\.\*'; it has 0.weight, 0.bias, 2.weight, 2.bias"):
        select(_model(), ["0.*", "3.*"])
    model = _model()
    model.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(InputError, match="'phase' is torch.complex64"):
        select(model)


def test_splitting_gives_views_and_joining_takes_them_back() -> None:
    layout = layout_of(select(_model()))
    assert (layout.size, layout.sizes) == (13, (6, 3, 3, 1))
    flat = torch.arange(13.0)
    parts = layout.split(flat)
    assert [tuple(p.shape) for p in parts.values()] == [(3, 2), (3,), (1, 3), (1,)]
    torch.testing.assert_close(layout.join(parts.values()), flat)
    parts["2.bias"].fill_(-1)
    assert flat[-1] == -1


@pytest.mark.parametrize("shape", [(12,), (14,), (1, 13), ()])
def test_a_vector_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    layout: Layout = layout_of(select(_model()))
    with pytest.raises(InputError, match=r"shape \(13,\) here"):
        layout.split(torch.ones(shape))
