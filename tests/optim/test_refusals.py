"""Ways of stepping that a single process can take: the right step by a double-precision twin, or a refusal."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sharpscope import ASAM, GSAM, SAM
from sharpscope.errors import InputError

Loss = Callable[[nn.Module], torch.Tensor]


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def batch(n: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, 5, generator=draws), torch.randint(0, 3, (n,), generator=draws)


def loss_of(model: nn.Module, part: slice = slice(None)) -> torch.Tensor:
    x, y = batch()
    return cross_entropy(model(x.to(next(model.parameters()).dtype))[part], y[part])


def reference(
    model: nn.Module, rho: float, lr: float, *, size: float = 1.0, loss: Loss = loss_of
) -> dict[str, torch.Tensor]:
    """One step of SAM around gradient descent in double precision, by nothing but torch.autograd."""
    here = copy.deepcopy(model).double()
    g = torch.autograd.grad(loss(here) * size, list(here.parameters()))
    norm = torch.cat([part.flatten() for part in g]).norm()
    there = copy.deepcopy(here)
    with torch.no_grad():
        for p, part in zip(there.parameters(), g, strict=True):
            p += rho * part / norm
    descent = torch.autograd.grad(loss(there) * size, list(there.parameters()))
    return {n: p.detach() - lr * d for (n, p), d in zip(here.named_parameters(), descent, strict=True)}


def check(model: nn.Module, expected: dict[str, torch.Tensor], within: float = 1e-6) -> None:
    start = dict(network().named_parameters())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach().double(), expected[name], rtol=0, atol=within)
    assert max((expected[n] - start[n]).abs().max() for n in expected) > 2 * within  # it moved


def test_a_closure_that_clears_nothing_from_cleared_gradients() -> None:
    model = network()
    expected = reference(model, 0.5, 0.1)
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)

    def closure() -> torch.Tensor:
        loss = loss_of(model)
        loss.backward()
        return loss

    for set_to_none in (True, False):  # gradients of zeros count as cleared too
        model.load_state_dict(network().state_dict())
        loss_of(model).backward()
        optimizer.zero_grad(set_to_none=set_to_none)
        optimizer.step(closure)
        check(model, expected)


CLEAR: dict[str, Callable[[Any, nn.Module], None]] = {
    "optimizer": lambda optimizer, model: optimizer.zero_grad(),
    "optimizer, to zeros": lambda optimizer, model: optimizer.zero_grad(set_to_none=False),
    "model": lambda optimizer, model: model.zero_grad(),
    "model, to zeros": lambda optimizer, model: model.zero_grad(set_to_none=False),
}


@pytest.mark.parametrize("how", CLEAR)
def test_every_way_of_clearing_gradients_is_recognised(how: str) -> None:
    model = network()
    expected = reference(model, 0.5, 0.1)
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    loss_of(model, slice(0, 3)).backward()  # left from something else

    def closure() -> torch.Tensor:
        CLEAR[how](optimizer, model)
        loss = loss_of(model)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        return loss

    optimizer.step(closure)
    check(model, expected)


def test_a_closure_that_adds_to_gradients_of_earlier_micro_batches_is_refused() -> None:
    """As of Lightning's accumulate_grad_batches: earlier batches cannot be evaluated at θ + ε."""
    model = network()
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    loss_of(model, slice(0, 6)).backward()

    def closure() -> torch.Tensor:
        loss = loss_of(model, slice(6, 12))
        loss.backward()
        return loss

    with pytest.raises(InputError, match="sequence of closures"):
        optimizer.step(closure)
    for p, q in zip(model.parameters(), network().parameters(), strict=True):
        assert torch.equal(p, q)
    optimizer.zero_grad()
    optimizer.step(closure)  # nothing is left in the way


def test_autocast_around_the_step() -> None:
    """Autocast keeps the weights it has converted; after a move they are converted anew."""
    model = network()
    inside, outside = (copy.deepcopy(model) for _ in range(2))
    for m, within in ((inside, True), (outside, False)):
        optimizer = SAM(m.parameters(), rho=2.0, lr=0.1)

        def closure(m: nn.Module = m, optimizer: Any = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(m)
            loss.backward()
            return loss

        with torch.autocast("cpu", torch.bfloat16) if within else nullcontext():
            optimizer.step(closure)
    expected = reference(model, 2.0, 0.1)
    plain = reference(model, 1e-9, 0.1)
    for n, p in inside.named_parameters():
        assert torch.equal(p, dict(outside.named_parameters())[n])
    off = max((p - expected[n]).abs().max() for n, p in inside.named_parameters())
    assert off < 0.1 * max((plain[n] - expected[n]).abs().max() for n in plain)  # what bfloat16 rounds away


def test_autocast_around_two_steps() -> None:
    ways = []
    for within in (True, False):
        model = network()
        optimizer = SAM(model.parameters(), rho=2.0, lr=0.1)
        with torch.autocast("cpu", torch.bfloat16) if within else nullcontext():
            for step in (optimizer.first_step, optimizer.second_step):
                with torch.autocast("cpu", torch.bfloat16):
                    loss = loss_of(model)
                loss.backward()
                step()
        ways.append([p.detach().numpy().tobytes() for p in model.parameters()])
    assert ways[0] == ways[1]


@pytest.mark.parametrize("kind", [SAM, ASAM])
@pytest.mark.parametrize("size", [1e-36, 3e-24, 1e-12, 1e20])
def test_gradients_near_underflow_and_overflow(kind: Any, size: float) -> None:
    """ε has the radius asked for, whatever the size of the gradient."""
    model = network()
    optimizer = kind(model.parameters(), rho=0.05, lr=0.0)
    (loss_of(model) * size).backward()
    weights = {n: p.detach().double().clone() for n, p in model.named_parameters()}
    g = {n: p.grad.double() for n, p in model.named_parameters()}
    t = {n: w.abs() + 0.01 if kind is ASAM else torch.ones_like(w) for n, w in weights.items()}
    norm = torch.cat([(t[n] * g[n] / size).flatten() for n in g]).norm() * size
    optimizer.first_step()
    for n, p in model.named_parameters():
        torch.testing.assert_close(
            p.detach().double(), weights[n] + 0.05 * t[n] ** 2 * g[n] / norm, rtol=0, atol=1e-6
        )


def test_unscale_before_the_first_step_is_refused() -> None:
    model = network()
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss_of(model)).backward()
    scaler.unscale_(optimizer)
    optimizer.first_step()
    scaler.scale(loss_of(model)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    with pytest.raises(InputError, match=r"unscale_.* belongs between"):
        scaler.step(optimizer)
    for p, q in zip(model.parameters(), network().parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("unscale", [False, True])
def test_a_scaler_s_step_is_the_reference_s(unscale: bool) -> None:
    model = network()
    expected = reference(model, 0.5, 0.1)
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss_of(model)).backward()
    optimizer.first_step()
    scaler.scale(loss_of(model)).backward()
    if unscale:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    check(model, expected)


def test_what_mixes_gradients_asks_for_the_loss_scale() -> None:
    plain = network()
    optimizer = GSAM(plain.parameters(), rho=0.5, lr=0.1)
    loss_of(plain).backward()
    optimizer.first_step()
    loss_of(plain).backward()
    optimizer.second_step()
    for build in (
        lambda p: GSAM(p, rho=0.5, lr=0.1),
        lambda p: SAM(p, rho=0.5, lr=0.1, weight_decay=0.1, decay_in_ascent=True),
    ):
        for unscale in (False, True):
            model = network()
            optimizer, scaler = build(model.parameters()), torch.amp.GradScaler("cpu", init_scale=1024.0)

            def step(scale: float | None) -> None:
                scaler.scale(loss_of(model)).backward()  # noqa: B023
                optimizer.first_step(grad_scale=scale)  # noqa: B023
                scaler.scale(loss_of(model)).backward()  # noqa: B023
                if unscale:  # noqa: B023
                    scaler.unscale_(optimizer)  # noqa: B023
                scaler.step(optimizer)  # noqa: B023

            with pytest.raises(InputError, match="grad_scale="):
                step(None)
            scaler.update()
            optimizer.zero_grad()
            step(1024.0)
            if isinstance(optimizer, GSAM):
                for p, q in zip(model.parameters(), plain.parameters(), strict=True):
                    torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


def test_a_scaler_s_step_with_a_closure_is_refused() -> None:
    model = network()
    optimizer, scaler = SAM(model.parameters(), rho=0.5, lr=0.1), torch.amp.GradScaler("cpu")
    loss = scaler.scale(loss_of(model))
    loss.backward()
    with pytest.raises(InputError, match="takes no closure"):
        scaler.step(optimizer, lambda: loss)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=r"autocast"):
        SAM(network().to(dtype).parameters(), lr=0.1)
    SAM(network().to(dtype).parameters(), rho=0.0, lr=0.1)  # is the base's own
    model = network()
    optimizer = SAM(model.parameters(), lr=0.1)
    model.to(dtype)
    loss_of(model).backward()
    with pytest.raises(InputError, match=r"autocast"):
        optimizer.first_step()
    with pytest.raises(InputError, match=r"autocast"):
        optimizer.step(lambda: (optimizer.zero_grad(), loss_of(model).backward()))


def test_a_closure_after_the_first_step_is_evaluated_once_and_there() -> None:
    """As trainers do that hand every step a closure."""
    model = network()
    expected = reference(model, 0.5, 0.1)
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    loss_of(model).backward()
    optimizer.first_step()
    calls = []

    def closure() -> torch.Tensor:
        calls.append(1)
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert len(calls) == 1
    check(model, expected)


def test_a_closure_that_fails_after_the_first_step_leaves_the_weights() -> None:
    model = network()
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    loss_of(model).backward()
    optimizer.first_step()

    def closure() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    for p, q in zip(model.parameters(), network().parameters(), strict=True):
        assert torch.equal(p, q)
    optimizer.state_dict()  # not between two steps any more


def test_gradients_at_hand_and_a_closure_that_does_nothing_are_refused() -> None:
    """Lightning's manual optimization without first_step."""
    model = network()
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    loss_of(model).backward()
    with pytest.raises(InputError, match=r"first_step"):
        optimizer.step(lambda: None)


def test_nothing_stays_on_the_parameters_of_an_optimizer_that_is_gone() -> None:
    model = network()
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    optimizer.step(lambda: loss_of(model).backward())
    assert any(p._post_accumulate_grad_hooks for p in model.parameters())
    copied = copy.deepcopy(model)  # as an average of weights is made
    assert not any(p._post_accumulate_grad_hooks for p in copied.parameters())
    del optimizer
    gc.collect()
    assert not any(p._post_accumulate_grad_hooks or p._backward_hooks for p in model.parameters())


def test_two_steps_in_one_autocast() -> None:
    """The way back to θ converts the weights anew as well."""
    weights = []
    for within in (True, False):
        model = network()
        optimizer = SAM(model.parameters(), rho=2.0, lr=0.5)

        def closure(model: nn.Module = model, optimizer: Any = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(model)
            loss.backward()
            return loss

        with torch.autocast("cpu", torch.bfloat16) if within else nullcontext():
            for step in range(2):
                optimizer.step(closure)
                if step == 0:
                    closure()
                    optimizer.first_step()
                    closure()  # at θ + ε
                    optimizer.restore()
                    closure()  # at θ again
                    weights.append([p.grad.numpy().tobytes() for p in model.parameters()])
        weights.append([p.detach().numpy().tobytes() for p in model.parameters()])
    assert weights[:2] == weights[2:]
