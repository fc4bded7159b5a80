"""Vectors are drawn slice by slice to the same bits as at once, whatever part of them a rank keeps."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from sharpscope.autograd import shards
from sharpscope.autograd.shards import Shards, even_piece, piece_of


def ranks(rank: int, size: int = 3) -> SimpleNamespace:
    """The number of a rank and of all ranks, which is all that cutting needs."""
    return SimpleNamespace(rank=rank, size=size)


def pieces(rank: int) -> tuple[shards.Piece, ...]:
    """A matrix cut by rows, one by columns, of which one rank has none, a bias every rank has, and a cube."""
    own = [torch.Size([n, 37]) for n in (2, 2, 1)], [torch.Size([6, n]) for n in (4, 0, 3)]
    return (
        piece_of(torch.Size([5, 37]), 0, (2, 2, 1), own[0][rank]),
        piece_of(torch.Size([6, 7]), 1, (4, 0, 3), own[1][rank]),
        even_piece(torch.Size([11]), ranks(rank)),
        piece_of(torch.Size([4, 3, 2]), 1, (1, 1, 1), torch.Size([4, 1, 2])),
    )


DRAWS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "normal": lambda n, g: torch.randn(n, generator=g),
    "normal in float64": lambda n, g: torch.randn(n, generator=g, dtype=torch.float64),
    "uniform": lambda n, g: torch.rand(n, generator=g),
    "signs": lambda n, g: torch.randint(0, 2, (n,), generator=g, dtype=torch.int8),
    "integers": lambda n, g: torch.randint(0, 2, (n,), generator=g),
}


@pytest.mark.parametrize("slices", [16, 32, 64, 1 << 16])
@pytest.mark.parametrize("name", DRAWS)
def test_slices_of_a_draw_are_the_bits_of_the_whole(name: str, slices: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "DRAWN", slices)
    whole = DRAWS[name](262, torch.Generator().manual_seed(3))
    for rank in range(3):
        cut, draws = Shards(ranks(rank), pieces(rank)), torch.Generator().manual_seed(3)
        assert cut.size == 262
        own = cut.drawn(lambda n, draws=draws: DRAWS[name](n, draws))
        assert torch.equal(own, cut.taken(whole))
        assert own.numel() == cut.own_size <= cut.most


def test_all_entries_are_held_once():
    whole = torch.arange(262)
    kept = torch.cat([Shards(ranks(rank), pieces(rank)).taken(whole) for rank in range(3)])
    assert kept.sort().values.equal(whole)
