"""GSAM, FriendlySAM and LookSAM by hand and against pytorch_optimizer; variants that a user writes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from optim.test_refusals import batch, network
from sharpscope import GSAM, SAM, FriendlySAM, LookSAM
from sharpscope.errors import InputError
from sharpscope.optim import joint_norm

STEPS = 6


def single() -> nn.Module:
    """A model whose only parameter is one matrix, where norms by tensor and by model agree."""
    torch.manual_seed(0)
    return nn.Linear(5, 3, bias=False).double()


def closure_of(optimizer: Any, model: nn.Module, step: int) -> Any:
    x, y = batch(seed=step)
    x = x.to(next(model.parameters()).dtype)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


def train(optimizer: Any, model: nn.Module, steps: range = range(STEPS)) -> list[torch.Tensor]:
    for step in steps:
        optimizer.step(closure_of(optimizer, model, step))
    return [p.detach().clone() for p in model.parameters()]


def gradient(model: nn.Module, step: int) -> torch.Tensor:
    x, y = batch(seed=step)
    loss = nn.functional.cross_entropy(model(x.double()), y)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def at(model: nn.Module, theta: torch.Tensor) -> nn.Module:
    other = copy.deepcopy(model)
    nn.utils.vector_to_parameters(theta, other.parameters())
    return other


def by_hand(kind: str, model: nn.Module, rho: float, lr: float, **o: float) -> torch.Tensor:
    """Each algorithm as its paper states it, on the flat vector of all parameters."""
    theta = nn.utils.parameters_to_vector(model.parameters()).detach()
    mean = aside = None
    for step in range(STEPS):
        g = gradient(at(model, theta), step)
        d = g
        if kind == "friendly":
            d = g if mean is None else g - o["sigma"] * mean
            mean = g if mean is None else o["mean_decay"] * mean + (1 - o["mean_decay"]) * g
        if kind == "look" and step % o["k"]:
            assert aside is not None
            descent = g + o["alpha"] * g.norm() / aside.norm() * aside
        else:
            there = gradient(at(model, theta + rho * d / d.norm()), step)
            descent = there
            if kind == "gsam":
                descent = there - o["alpha"] * (g - (g @ there) / (there @ there) * there)
            if kind == "look":
                unit = g / g.norm()
                aside = there - (there @ unit) * unit
        theta = theta - lr * descent
    return theta


VARIANTS: dict[str, tuple[Any, dict[str, float]]] = {
    "gsam": (GSAM, {"alpha": 0.4}),
    "friendly": (FriendlySAM, {"sigma": 0.8, "mean_decay": 0.7}),
    "look": (LookSAM, {"k": 3, "alpha": 0.7}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_algorithm_of_the_paper(name: str) -> None:
    kind, options = VARIANTS[name]
    model = network().double()
    expected = by_hand(name, model, 0.5, 0.3, **options)
    optimizer = kind(model.parameters(), rho=0.5, lr=0.3, **options)
    found = torch.cat([p.flatten() for p in train(optimizer, model)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    plain = network().double()
    sam = torch.cat([p.flatten() for p in train(SAM(plain.parameters(), rho=0.5, lr=0.3), plain)])
    assert (found - sam).abs().max() > 1e-3


def test_agree_with_pytorch_optimizer_where_definitions_do() -> None:
    """FriendlySAM everywhere; LookSAM on one tensor, since the peer takes norms tensor by tensor."""
    peer = pytest.importorskip("pytorch_optimizer")
    options: dict[str, Any] = {"lr": 0.3, "momentum": 0.9, "rho": 0.5}
    cases: list[tuple[Any, Any, Any, dict[str, Any], dict[str, Any]]] = [
        (network, FriendlySAM, peer.FriendlySAM, {}, {}),
        (
            network,
            FriendlySAM,
            peer.FriendlySAM,
            {"sigma": 0.8, "mean_decay": 0.7},
            {"sigma": 0.8, "lmbda": 0.7},
        ),
        (single, LookSAM, peer.LookSAM, {"k": 3, "alpha": 0.5}, {"k": 3, "alpha": 0.5}),
    ]
    for make, ours, theirs, own, its in cases:
        one, two = make().double(), make().double()
        mine = train(ours(one.parameters(), **options, **own), one)
        other = theirs(two.parameters(), torch.optim.SGD, **options, **its)
        for step in range(STEPS):
            closure = closure_of(other, two, step)
            closure()
            other.step(closure)
        for a, b in zip(mine, two.parameters(), strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=0, atol=1e-6)


def test_gsam_agrees_with_pytorch_optimizer() -> None:
    peer = pytest.importorskip("pytorch_optimizer")
    one, two = network().double(), network().double()
    mine = train(GSAM(one.parameters(), rho=0.5, alpha=0.3, lr=0.3, momentum=0.9), one)

    class Constant:
        def step(self) -> float:
            return 0.5

    sgd = torch.optim.SGD(two.parameters(), lr=0.3, momentum=0.9)
    other = peer.GSAM(two.parameters(), sgd, two, Constant(), alpha=0.3)
    for step in range(STEPS):
        x, y = batch(seed=step)
        other.set_closure(nn.functional.cross_entropy, x.double(), y)
        other.step()
    for a, b in zip(mine, two.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_saved_after_any_step_it_goes_on_with_the_same_bits(name: str, base: Any) -> None:
    kind, options = VARIANTS[name]
    whole = network()
    end = train(kind(whole.parameters(), base, lr=0.01, **options), whole)
    for done in range(STEPS):
        first, second = network(), network(seed=9)
        optimizer = kind(first.parameters(), base, lr=0.01, **options)
        train(optimizer, first, range(done))
        other = kind(second.parameters(), base, lr=0.01, **options)
        second.load_state_dict(first.state_dict())
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for a, b in zip(train(other, second, range(done, STEPS)), end, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", VARIANTS)
def test_two_steps_are_the_closure_s(name: str) -> None:
    kind, options = VARIANTS[name]
    one, two = network(), network()
    expected = train(kind(one.parameters(), lr=0.1, momentum=0.9, **options), one)
    optimizer = kind(two.parameters(), lr=0.1, momentum=0.9, **options)
    for step in range(STEPS):
        evaluate = closure_of(optimizer, two, step)
        evaluate()
        if optimizer.perturbs():
            optimizer.first_step()
            evaluate()
        optimizer.step()
    for a, b in zip(expected, two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_looksam_evaluates_twice_in_every_kth_step_only() -> None:
    model = network()
    optimizer = LookSAM(model.parameters(), k=3, lr=0.1)
    calls = []
    for step in range(7):
        evaluate = closure_of(optimizer, model, step)
        before = len(calls)
        optimizer.step(lambda evaluate=evaluate: calls.append(1) or evaluate())  # type: ignore[func-returns-value]
        assert len(calls) - before == (2 if step % 3 == 0 else 1)


@pytest.mark.parametrize("name", VARIANTS)
def test_without_a_radius_and_with_zero_gradients(name: str) -> None:
    kind, options = VARIANTS[name]
    model, plain = network(), network()
    train(kind(model.parameters(), rho=0.0, lr=0.1, **options), model)
    train(torch.optim.SGD(plain.parameters(), lr=0.1), plain)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    optimizer = kind(model.parameters(), lr=0.1, **options)
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(4):
        optimizer.step(
            lambda: (optimizer.zero_grad(), (sum(p.sum() for p in model.parameters()) * 0).backward())
        )
    assert all(torch.equal(a, p) for a, p in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_that_overflows_is_forgotten(name: str) -> None:
    kind, options = VARIANTS[name]
    weights = []
    for overflow in (False, True):
        model = network()
        optimizer = kind(model.parameters(), lr=0.1, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=1.0, growth_interval=1000)
        for step in range(STEPS):
            for bad in (True, False) if overflow and step == 2 else (False,):
                for first in (True, False):
                    x, y = batch(seed=step)
                    loss = nn.functional.cross_entropy(model(x), y) * (float("inf") if bad else 1.0)
                    scaler.scale(loss).backward()
                    if first:
                        optimizer.first_step(grad_scale=scaler.get_scale())
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
        weights.append([p.detach().clone() for p in model.parameters()])
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_out_of_range() -> None:
    p = network().parameters
    for build in (
        lambda: GSAM(p(), alpha=-0.1, lr=0.1),
        lambda: FriendlySAM(p(), sigma=float("nan"), lr=0.1),
        lambda: FriendlySAM(p(), mean_decay=1.0, lr=0.1),
        lambda: LookSAM(p(), k=0, lr=0.1),
        lambda: LookSAM(p(), k=2.5, lr=0.1),  # type: ignore[arg-type]
        lambda: LookSAM(p(), alpha=float("inf"), lr=0.1),
    ):
        with pytest.raises(InputError, match="received"):
            build()


class Unnormalised(SAM):
    def perturbation(self, parameters: Any, gradients: Any, radii: Any) -> Any:
        return [rho * g for rho, g in zip(radii, gradients, strict=True)]


class ByLayer(SAM):
    def perturbation(self, parameters: Any, gradients: Any, radii: Any) -> Any:
        return [rho * g / joint_norm([g]).to(g) for rho, g in zip(radii, gradients, strict=True)]


class ThreeMoves(SAM):
    def ascend(self, closure: Any) -> None:
        for move in range(3):
            if move:
                closure()
            super().ascend(closure)


def test_variants_of_a_user_s_own() -> None:
    model = network().double()
    theta = nn.utils.parameters_to_vector(model.parameters()).detach()
    g = gradient(model, 0)
    cases: list[tuple[Any, torch.Tensor]] = [(Unnormalised, theta + 0.2 * g)]
    lengths = [p.numel() for p in model.parameters()]
    cases.append((ByLayer, theta + 0.2 * torch.cat([part / part.norm() for part in g.split(lengths)])))
    there = theta
    for _ in range(3):
        slope = gradient(at(model, there), 0)
        there = there + 0.2 * slope / slope.norm()
    cases.append((ThreeMoves, there))
    for kind, place in cases:
        m = network().double()
        optimizer = kind(m.parameters(), rho=0.2, lr=0.1)
        optimizer.step(closure_of(optimizer, m, 0))
        expected = theta - 0.1 * gradient(at(model, place), 0)
        found = nn.utils.parameters_to_vector(m.parameters()).detach()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_several_moves_need_a_closure_and_count_statistics_once() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3))
    optimizer = ThreeMoves(model.parameters(), rho=0.1, lr=0.1)
    optimizer.step(closure_of(optimizer, model, 0))
    assert model[1].num_batches_tracked == 1
    closure_of(optimizer, model, 0)()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(InputError, match=r"step\(closure\)"):
        optimizer.first_step()
    assert all(torch.equal(a, p) for a, p in zip(before, model.parameters(), strict=True))
