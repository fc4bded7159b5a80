"""Steps of SAM and ASAM against steps worked out by hand, and against the base optimizer."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sharpscope import ASAM, SAM
from sharpscope.errors import InputError

CURVATURES = np.array([3.0, -1.0, 0.5])  # of L = Σ h θ²/2: a saddle, three different scales
START = np.array([1.0, -2.0, 0.0])  # one weight at zero


def by_hand(
    steps: int,
    *,
    lr: float,
    rho: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    decay: float = 0.0,
    decay_in_ascent: bool = False,
    adaptive: bool = False,
    eta: float = 0.01,
) -> np.ndarray:
    theta, velocity = START.copy(), None
    for _ in range(steps):
        g = CURVATURES * theta + (decay * theta if decay_in_ascent else 0)
        t = np.abs(theta) + eta if adaptive else np.ones(3)
        e = rho * t**2 * g / np.linalg.norm(t * g)
        d = CURVATURES * (theta + e) + decay * theta
        velocity = d if velocity is None else momentum * velocity + d
        theta = theta - lr * (d + momentum * velocity if nesterov else velocity if momentum else d)
    return theta


def quadratic(theta: torch.Tensor) -> torch.Tensor:
    return (torch.as_tensor(CURVATURES, dtype=theta.dtype) * theta.square()).sum() / 2


def closure_of(optimizer: torch.optim.Optimizer, loss: Any) -> Any:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "decay outside the ascent": {"momentum": 0.9, "decay": 0.1},
    "decay in the ascent": {"momentum": 0.9, "decay": 0.1, "decay_in_ascent": True},
    "adaptive": {"adaptive": True},
    "adaptive, all of it": {
        "adaptive": True,
        "eta": 0.3,
        "momentum": 0.9,
        "nesterov": True,
        "decay": 0.1,
        "decay_in_ascent": True,
    },
}


@pytest.mark.parametrize("style", ["closure", "two steps"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("setting", SETTINGS)
def test_steps_worked_out_by_hand(setting: str, dtype: torch.dtype, style: str) -> None:
    chosen = {"lr": 0.05, "rho": 0.3, **SETTINGS[setting]}
    expected = by_hand(5, **chosen)
    theta = nn.Parameter(torch.tensor(START, dtype=dtype))
    adaptive = chosen.pop("adaptive", False)
    options = {"weight_decay" if k == "decay" else k: v for k, v in chosen.items()}
    optimizer = (ASAM if adaptive else SAM)([theta], torch.optim.SGD, **options)
    for _ in range(5):
        if style == "closure":
            optimizer.step(closure_of(optimizer, lambda: quadratic(theta)))
        else:
            quadratic(theta).backward()
            optimizer.first_step(zero_grad=True)
            quadratic(theta).backward()
            optimizer.second_step(zero_grad=True)
    np.testing.assert_allclose(theta.detach().numpy(), expected, atol=1e-6)
    assert "momentum" not in chosen or abs(expected - START).max() > 0.1  # it moved


def network(seed: int = 0, norm: bool = True) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        middle = [nn.BatchNorm1d(7)] if norm else []
        return nn.Sequential(nn.Linear(5, 7), *middle, nn.Tanh(), nn.Linear(7, 3))


def batch(n: int = 11, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, 5, generator=draws), torch.randint(0, 3, (n,), generator=draws)


def train(optimizer: Any, model: nn.Module, steps: int = 4, style: str = "closure") -> list[float]:
    losses = []
    for step in range(steps):
        x, y = batch(seed=step)

        def loss(x: Any = x, y: Any = y) -> torch.Tensor:
            return nn.functional.cross_entropy(model(x), y)

        if style == "closure":
            losses.append(optimizer.step(closure_of(optimizer, loss)).item())
        else:
            optimizer.zero_grad()
            loss().backward()
            optimizer.first_step(zero_grad=True)
            loss().backward()
            optimizer.second_step()
    return losses


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_both_styles_take_the_same_steps() -> None:
    one, two = network(), network()
    train(SAM(one.parameters(), lr=0.1, momentum=0.9), one)
    train(SAM(two.parameters(), lr=0.1, momentum=0.9), two, style="two steps")
    assert bits(one) == bits(two)


BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2}),
    "fused adam": (torch.optim.Adam, {"lr": 1e-2, "fused": True}),
    "adadelta, which has a rho of its own": (torch.optim.Adadelta, {"lr": 1.0}),
    "lbfgs, which evaluates several times": (torch.optim.LBFGS, {"lr": 0.1, "max_iter": 4}),
}


@pytest.mark.parametrize("name", BASES)
def test_without_a_radius_it_is_the_base_bit_for_bit(name: str) -> None:
    base, options = BASES[name]
    plain, ours = network(), network()
    expected = train(base(plain.parameters(), **options), plain)
    assert train(SAM(ours.parameters(), base, rho=0.0, **options), ours) == expected
    assert bits(ours) == bits(plain)
    perturbed = network()
    train(SAM(perturbed.parameters(), base, rho=0.1, **options), perturbed)
    assert bits(perturbed) != bits(plain)


def test_without_a_radius_two_steps_are_the_base_too() -> None:
    plain, ours = network(), network()
    train(torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9), plain)
    train(SAM(ours.parameters(), rho=0.0, lr=0.1, momentum=0.9), ours, style="two steps")
    assert bits(ours) == bits(plain)


@pytest.mark.parametrize("adaptive", [False, True])
def test_agrees_with_pytorch_optimizer(adaptive: bool) -> None:
    """Where the definitions coincide: η = 0 in its adaptive form; no batch normalisation, which it moves twice."""
    peer = pytest.importorskip("pytorch_optimizer")
    ours, theirs = network(norm=False).double(), network(norm=False).double()
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}
    rescale: Any = "all" if adaptive else "none"
    one = SAM(ours.parameters(), torch.optim.SGD, rho=0.5, rescale=rescale, eta=0.0, **options)
    two = peer.SAM(theirs.parameters(), torch.optim.SGD, rho=0.5, adaptive=adaptive, **options)
    for step in range(6):
        x, y = batch(seed=step)
        x = x.double()
        for optimizer, model in ((one, ours), (two, theirs)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.first_step(zero_grad=True)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.second_step(zero_grad=True)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


@pytest.mark.parametrize("given", ["parameters", "model"])
@pytest.mark.parametrize("style", ["closure", "two steps"])
def test_running_statistics_move_once_a_step(style: str, given: str) -> None:
    model, once = network(), network()
    optimizer = SAM(model.parameters(), lr=0.1, rho=0.5, model=model if given == "model" else None)
    once(batch()[0])
    train(optimizer, model, steps=1, style=style)
    assert model[1].num_batches_tracked == 1
    for name in ("running_mean", "running_var"):
        assert torch.equal(getattr(model[1], name), getattr(once[1], name))
    model.eval()
    before = bits(model)
    model(batch()[0])
    assert bits(model) == before
    model.train()
    model(batch()[0])
    assert model[1].num_batches_tracked == 2  # nothing is left in the way


def test_an_optimizer_dropped_between_its_steps_leaves_no_hook() -> None:
    from torch.nn.modules.module import _global_forward_pre_hooks as hooks

    before = len(hooks)
    model = network()
    optimizer = SAM(model.parameters(), lr=0.1)
    nn.functional.cross_entropy(model(batch()[0]), batch()[1]).backward()
    optimizer.first_step()
    assert len(hooks) == before + 1
    del optimizer
    gc.collect()
    assert len(hooks) == before


def test_statistics_without_momentum_and_of_a_compiled_model() -> None:
    for build in (lambda m: m, lambda m: torch.compile(m, backend="aot_eager")):
        model = network()
        model[1].momentum = None  # type: ignore[assignment]
        compiled = build(model)
        train(SAM(model.parameters(), lr=0.1, rho=0.5, model=compiled), compiled, steps=2)
        assert model[1].num_batches_tracked == 2


def test_a_compiled_model_takes_the_same_steps() -> None:
    plain, inner = network(), network()
    compiled = torch.compile(inner, backend="aot_eager")
    train(SAM(plain.parameters(), lr=0.1, rho=0.5), plain)
    train(SAM(inner.parameters(), lr=0.1, rho=0.5, model=compiled), compiled)
    for a, b in zip(plain.state_dict().values(), inner.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_groups_and_their_radii() -> None:
    """The norm is over the perturbed groups; a group at 0 stays; each group moves by its own radius."""
    a, b, c = (nn.Parameter(torch.tensor(v)) for v in ([3.0], [4.0], [7.0]))
    groups = [{"params": [a]}, {"params": [b], "sam_rho": 1.0}, {"params": [c], "sam_rho": 0.0}]
    optimizer = SAM(groups, rho=0.5, lr=0.1)
    ((a.square() + b.square() + c.square()) / 2).sum().backward()
    optimizer.first_step()
    assert [round(p.item(), 5) for p in (a, b, c)] == [3.3, 4.8, 7.0]  # 0.5 · 3/5 and 1.0 · 4/5
    with pytest.raises(InputError, match="no gradient at"):
        optimizer.second_step()
    assert [round(p.item(), 5) for p in (a, b, c)] == [3.0, 4.0, 7.0]
    for p, gradient in ((a, 3.0), (b, 4.0), (c, 7.0)):
        p.grad = torch.tensor([gradient])
    optimizer.first_step()
    for p, gradient in ((a, 3.0), (b, 4.0), (c, 7.0)):
        p.grad = torch.tensor([gradient])
    optimizer.second_step()
    assert [round(p.item(), 5) for p in (a, b, c)] == [2.7, 3.6, 6.3]
    d = nn.Parameter(torch.ones(1))
    optimizer.add_param_group({"params": [d]})
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.param_groups[-1]["sam_rho"] == 0.5
    assert optimizer.param_groups[-1]["lr"] == 0.1
    with pytest.raises(InputError, match="finite"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "sam_rho": -1.0})
    assert len(optimizer.param_groups) == 4


def test_a_maximising_base_looks_for_the_lowest_point() -> None:
    theta = nn.Parameter(torch.tensor([2.0]))
    optimizer = SAM([theta], rho=0.5, lr=0.1, maximize=True)
    (theta.square() / 2).sum().backward()
    optimizer.first_step()
    assert theta.item() == 1.5


@pytest.mark.parametrize(
    ("rescale", "rescaled"),
    [
        ("none", []),
        ("all", ["0.weight", "0.bias", "1.weight", "1.bias"]),
        ("matrices", ["0.weight"]),
        ("weights", ["0.weight", "1.weight"]),
    ],
)
@pytest.mark.parametrize("names", ["named", "model"])
def test_which_parameters_are_rescaled(rescale: Any, rescaled: list[str], names: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    nn.init.normal_(model[1].weight)
    params: Any = model.named_parameters() if names == "named" else model.parameters()
    optimizer = ASAM(
        params, rho=1.0, eta=0.2, rescale=rescale, lr=0.1, model=None if names == "named" else model
    )
    model(torch.randn(6, 3)).square()[:, :2].sum().backward()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    t = {n: p.abs() + 0.2 if n in rescaled else torch.ones_like(p) for n, p in before.items()}
    g = {n: p.grad for n, p in model.named_parameters()}
    norm = torch.cat([(t[n] * g[n]).flatten() for n in g]).norm()
    optimizer.first_step()
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[n] + t[n] ** 2 * g[n] / norm)


def test_each_micro_batch_finds_its_own_perturbation() -> None:
    parts = [batch(8, seed=1), batch(8, seed=2)]

    def steps(m: str) -> nn.Module:
        model = network(norm=False)
        optimizer = SAM(model.parameters(), lr=0.1, rho=0.5)
        cross_entropy = nn.functional.cross_entropy
        if m == "each":
            optimizer.step(
                [closure_of(optimizer, lambda x=x, y=y: cross_entropy(model(x), y) / 2) for x, y in parts]
            )
        else:
            optimizer.step(
                closure_of(optimizer, lambda: sum(cross_entropy(model(x), y) / 2 for x, y in parts))
            )
        return model

    start = network(norm=False)
    total = {n: torch.zeros_like(p) for n, p in start.named_parameters()}
    for x, y in parts:  # by hand
        model = network(norm=False)
        nn.functional.cross_entropy(model(x), y).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        with torch.no_grad():
            for p in model.parameters():
                p += 0.5 * p.grad / norm
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for n, p in model.named_parameters():
            total[n] += p.grad / 2
    each = dict(steps("each").named_parameters())
    for n, p in start.named_parameters():
        torch.testing.assert_close(each[n], p - 0.1 * total[n])
    together = dict(steps("together").named_parameters())
    assert max((each[n] - together[n]).abs().max() for n in each) > 1e-4


def test_unused_and_frozen_parameters_and_a_zero_gradient() -> None:
    used, unused, frozen = (nn.Parameter(torch.ones(2)) for _ in range(3))
    frozen.requires_grad_(False)
    optimizer = SAM([used, unused, frozen], rho=0.5, lr=0.1)
    optimizer.step(closure_of(optimizer, lambda: used.sum() * 0))
    assert torch.equal(used, torch.ones(2))
    assert torch.equal(unused, torch.ones(2))
    assert unused.grad is None


def test_a_closure_that_fails_leaves_the_weights_where_they_were() -> None:
    model = network()
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    x, y = batch()
    calls = []

    def closure() -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    train(optimizer, model)


def test_out_of_turn_and_out_of_range() -> None:
    model = network()
    optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
    with pytest.raises(InputError, match="closure"):
        optimizer.step()
    nn.functional.cross_entropy(model(batch()[0]), batch()[1]).backward()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.first_step()
    for refused in (optimizer.first_step, optimizer.state_dict, lambda: optimizer.step(lambda: 0)):
        with pytest.raises(InputError, match="θ"):
            refused()
    optimizer.restore()
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    for wrong in (
        {"rho": -0.1},
        {"rho": float("nan")},
        {"eta": float("inf")},
        {"rescale": "some"},
        {"rescale": "weights"},
        {"m": "rank"},
        {"m": 3},
    ):
        with pytest.raises(InputError):
            SAM(model.parameters(), lr=0.1, **wrong)  # type: ignore[arg-type]


def test_copies_and_pickles_go_on_alike() -> None:
    model = network()
    optimizer = SAM(model.parameters(), torch.optim.Adam, rho=0.5, lr=0.01)
    train(optimizer, model)
    other_model, other = copy.deepcopy((model, optimizer))
    third_model, third = pickle.loads(pickle.dumps((model, optimizer)))
    for m, o in ((model, optimizer), (other_model, other), (third_model, third)):
        assert o.state is o.base.state
        assert o.param_groups is o.base.param_groups
        train(o, m)
    assert bits(model) == bits(other_model) == bits(third_model)
