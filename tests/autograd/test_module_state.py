"""A module at other tensors, modes and random states, and how everything is restored."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from problems import Autoencoder, Recurrent, TiedWeight
from sharpscope.autograd.module_state import RandomState, SavedState, preserved_random_state, restoring

CPU = torch.device("cpu")


def _draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_all_random_states_are_restored_also_on_error() -> None:
    state = RandomState()
    expected = _draws()
    state.restore()

    @preserved_random_state()
    def drawing() -> None:
        _draws()
        raise KeyError

    with pytest.raises(KeyError):
        drawing()
    assert _draws() == expected


class Noted(nn.Module):
    """Counts its calls, keeps a tensor and a flag, and overrides train()."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(()))
        self.calls = 0

    def train(self, mode: bool = True) -> Noted:
        raise AssertionError("flags are set directly")

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x
        self.seen = self.seen + 1
        out: Tensor = self.drop(self.norm(x))
        return out


def _switches() -> list[bool]:
    cuda = torch.backends.cuda
    return [
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.math_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
        torch.backends.cudnn.enabled,
        torch.is_autocast_enabled("cpu"),
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_flags_attributes_buffers_switches_and_draws_are_as_before(error: Any) -> None:
    model = Noted()
    model.drop.training = False  # flags that differ
    before = {name: dict(vars(m)) for name, m in model.named_modules()}
    tensors = dict(model.state_dict(keep_vars=True))
    values = {name: t.clone() for name, t in model.state_dict().items()}
    torch.manual_seed(3)
    state = RandomState()
    expected = _draws()
    state.restore()

    def measure(saved: SavedState) -> str:
        saved.set_mode("train", True)
        saved.use_twice_differentiable_kernels()
        torch.set_grad_enabled(False)
        torch.manual_seed(1)
        saved.hold({id(b): b.clone() for b in saved.buffers})
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert not torch.is_autocast_enabled("cpu")
        model(torch.randn(4, 2))
        assert model.calls == 1
        if error is not None:
            raise error
        return "done"

    with torch.autocast("cpu"):
        switches = _switches()
        if error is None:
            assert restoring(model, CPU, measure) == "done"
        else:
            with pytest.raises(error) as raised:
                restoring(model, CPU, measure)
            assert raised.value is not None  # held, with its traceback
        assert _switches() == switches
        assert {name: dict(vars(m)) for name, m in model.named_modules()} == before
        assert all(tensors[n] is t for n, t in model.state_dict(keep_vars=True).items())
        assert all(torch.equal(values[n], t) for n, t in model.state_dict().items())
        assert _draws() == expected


def test_an_interrupt_while_the_state_is_restored_does_not_leave_it_half_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    restore, interrupts = RandomState.restore, iter([True])

    def interrupted(self: RandomState) -> None:
        if next(interrupts, False):
            raise KeyboardInterrupt
        restore(self)

    monkeypatch.setattr(RandomState, "restore", interrupted)
    torch.manual_seed(7)
    expected = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        restoring(model, CPU, lambda saved: torch.rand(3))
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize(
    ("mode", "dropout", "training"),
    [
        ("eval", False, (False, False, False)),
        ("train", False, (False, True, False)),
        ("train", True, (True,) * 3),
    ],
)
def test_modes_are_declared(mode: str, dropout: bool, training: tuple[bool, ...]) -> None:
    model = Noted()

    def flags(saved: SavedState) -> tuple[bool, ...]:
        saved.set_mode(mode, dropout)
        return model.training, model.norm.training, model.drop.training

    assert restoring(model, CPU, flags) == training


@pytest.mark.parametrize("build", [TiedWeight, Autoencoder, Recurrent])
def test_substitutes_are_seen_wherever_a_tensor_is_held(build: type[nn.Module]) -> None:
    """Tied weights, a module under two names, and a recurrent layer's second list of its weights."""
    torch.manual_seed(0)
    model, other = build().double(), build().double()
    x = torch.randn(5, 4, dtype=torch.float64)
    mine, theirs = model(x).detach(), other(x).detach()
    assert not torch.allclose(mine, theirs)
    tensors = dict(other.named_parameters())

    def outputs(saved: SavedState) -> Tensor:
        saved.hold({id(p): tensors[name].detach() for name, p in saved.parameters.items()})
        first = model(x)
        saved.hold({id(p): 2 * tensors[name].detach() for name, p in saved.parameters.items()})
        saved.hold({id(p): tensors[name].detach() for name, p in saved.parameters.items()})  # again
        torch.testing.assert_close(model(x), first)
        result: Tensor = first
        return result

    torch.testing.assert_close(restoring(model, CPU, outputs), theirs)
    torch.testing.assert_close(model(x), mine)
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
