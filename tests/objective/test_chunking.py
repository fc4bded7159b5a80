"""The automatic size of chunks, and what happens when memory runs out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sharpscope import Objective
from sharpscope.curvature.operators import CurvatureProducts

cross_entropy = nn.functional.cross_entropy


class Narrow(nn.Module):
    """A model whose device has memory for so many samples at a time."""

    def __init__(self, room: int, error: type[RuntimeError] = torch.OutOfMemoryError) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double()
        self.room, self.error, self.seen = room, error, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen = max(self.seen, len(x))
        if len(x) > self.room:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        out: Tensor = self.layers(x)
        return out


def _data(n: int = 300) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=draws, dtype=torch.float64), torch.randint(0, 3, (n,), generator=draws)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_fewer_samples_at_a_time_where_memory_runs_out(error: type[RuntimeError]) -> None:
    plenty = Objective(Narrow(10**6), cross_entropy, _data(), chunk_size=256)
    short = Objective(Narrow(70, error), cross_entropy, _data(), chunk_size=256)
    v = plenty.flat()
    with pytest.warns(ResourceWarning, match="chunks of 64 samples"):
        assert short.loss() == pytest.approx(plenty.loss(), rel=1e-14)
    assert short.evaluator.chunk_size == 64
    short.evaluator.chunk_size = 256
    with pytest.warns(ResourceWarning):
        torch.testing.assert_close(short.gradient(), plenty.gradient())
    short.evaluator.chunk_size = 256
    with pytest.warns(ResourceWarning):
        torch.testing.assert_close(short.hvp(v), plenty.hvp(v))
    short.evaluator.chunk_size = 256
    product = CurvatureProducts(short, 10**9)
    with pytest.warns(ResourceWarning):
        torch.testing.assert_close(product(v), plenty.hvp(v))
    torch.testing.assert_close(product(v), plenty.hvp(v))


def test_what_cannot_be_cut_raises_as_before() -> None:
    whole = Objective(Narrow(70), cross_entropy, _data(300), mode="train")
    with pytest.raises(torch.OutOfMemoryError):
        whole.loss()
    other = Objective(Narrow(10**6), cross_entropy, _data())
    other.model.error, other.model.room = ValueError, 10  # type: ignore[assignment]
    with pytest.raises(ValueError, match="DefaultCPU"):
        other.loss()
    single = Objective(Narrow(100), cross_entropy, _data())
    single.model.room = 0  # type: ignore[assignment]
    with pytest.warns(ResourceWarning), pytest.raises(torch.OutOfMemoryError):
        single.loss()


def test_the_chunk_follows_what_a_sample_holds() -> None:
    def chunk(width: int, device_samples: int = 500) -> int:
        layers = [nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3)]
        x, y = _data(device_samples)
        found = Objective(nn.Sequential(*layers), cross_entropy, (x.float(), y)).evaluator.chunk_size
        assert found is not None
        return found

    assert chunk(64) == 8192
    assert chunk(2000) == 1024  # two activations of 2000 · 4 bytes: 16 MiB hold 1024 samples, not 2048
    assert chunk(64, 40) == 8192  # and not on how many there are
