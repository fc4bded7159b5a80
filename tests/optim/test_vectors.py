"""Norms, dot products and multiples of lists of tensors, of any size, layout and precision."""

from __future__ import annotations

import math

import pytest
import torch

from sharpscope.optim import joint_dot, joint_norm
from sharpscope.optim.vectors import add_multiple


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-36, -24, -18, -12, 0, 12, 18, 24, 36])
def test_the_norm_of_gradients_of_any_size(dtype: torch.dtype, exponent: int) -> None:
    draws = torch.Generator().manual_seed(0)
    parts = [
        torch.randn(3, 4, generator=draws, dtype=torch.float64),
        torch.randn(7, generator=draws).double(),
    ]
    given = [(p * 10.0**exponent).to(dtype) for p in parts]
    exact = math.sqrt(
        sum(math.fsum((g.double() / 10.0**exponent).square().flatten().tolist()) for g in given)
    )
    assert joint_norm(given).item() == pytest.approx(exact * 10.0**exponent, rel=1e-6)


@pytest.mark.parametrize("exponent", [-300, -200, 200, 300])
def test_the_norm_of_double_precision_gradients_beyond_squares(exponent: int) -> None:
    given = [torch.tensor([3.0, 0.0]).double() * 10.0**exponent, torch.tensor(4.0).double() * 10.0**exponent]
    assert joint_norm(given).item() == pytest.approx(5 * 10.0**exponent)


def test_norms_of_zeros_of_nothing_and_of_what_is_not_finite() -> None:
    assert joint_norm([]).item() == 0
    assert joint_norm([torch.zeros(3), torch.zeros(0)]).item() == 0
    assert joint_norm([torch.zeros(3).double()]).item() == 0
    assert joint_norm([torch.tensor([1.0, math.nan])]).isnan()
    assert joint_norm([torch.tensor([1.0, math.inf])]).isinf()


def test_sparse_complex_half_and_mixed_precision() -> None:
    sparse = torch.sparse_coo_tensor(
        [[0, 0, 2]], [1.0, 2.0, 4.0], (4,), check_invariants=True
    )  # (3, 0, 4, 0) once coalesced
    assert joint_norm([sparse]).item() == pytest.approx(5)
    assert joint_norm([torch.tensor([3 + 4j])]).item() == pytest.approx(5)
    assert joint_norm([torch.full((4,), 300.0).half()]).item() == pytest.approx(
        600
    )  # squares overflow in half
    assert joint_norm([torch.tensor([3.0]), torch.tensor([4.0]).double()]).item() == pytest.approx(5)
    dense = torch.tensor([1.0, 5.0, 0.5, 7.0])
    assert joint_dot([sparse.coalesce()], [dense]).item() == pytest.approx(5)
    assert joint_dot([torch.tensor([1 + 2j])], [torch.tensor([3 + 1j])]).item() == pytest.approx(5)


def test_a_direction_of_zeros_moves_nothing() -> None:
    for norm in (torch.tensor(0.0).double(), torch.tensor(1e-45).double()):
        p = torch.ones(2)
        add_multiple([p], [torch.zeros(2)], 0.5, norm)
        assert torch.equal(p, torch.ones(2))


def test_a_norm_that_is_no_number_gives_no_place() -> None:
    p = torch.ones(2)
    add_multiple([p], [torch.tensor([1.0, 2.0])], 0.5, torch.tensor(math.nan).double())
    assert p.isnan().all()
