"""Models and losses that gave a silent wrong number somewhere and are measured right.

"Right" is told by differences of the loss of a copy of the model, computed without this package.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from objective.small_functions import (
    Detector,
    N,
    X,
    Y,
    batch,
    ce,
    data_of,
    detection,
    in_two,
    pair,
    plain,
)
from sharpscope import Objective


def _weights(t: Tensor) -> Tensor:
    return torch.tensor([1.0, 5.0, 0.25], dtype=torch.float64)[t]


@dataclass
class Right:
    """What is built, and the loss of a model computed by other means."""

    build: Callable[[], Objective]
    loss: Callable[[nn.Module], Tensor]


def _pinn(m: Any, x: Tensor) -> Tensor:
    x.requires_grad_()
    u = plain(m, x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return torch.cat([u, slope], 1)


def _pinn_loss(m: nn.Module) -> Tensor:
    return F.mse_loss(m(X.clone()), torch.zeros(N, 8, dtype=torch.float64))


LATE = torch.where(torch.arange(200) % 7 == 6, -100, data_of(200)[1])
LATE[:70] = data_of(200)[1][:70]  # the first ignored target comes after the samples that are looked at first
TOKENS = torch.randint(6, (N, 2), generator=torch.Generator().manual_seed(3))


def _table(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Embedding(6, 3, **options), nn.Flatten(), nn.Tanh(), nn.Linear(6, 3)).double()


def _old(norm: Callable[..., nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)).double()
    return model.eval()


RIGHT = {
    "class weights": Right(
        lambda: pair(
            plain,
            nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.25])),
            in_two(X, Y, 7),
            chunk_size=5,
        ),
        lambda m: (_weights(Y) * ce(m(X), Y, reduction="none")).sum() / _weights(Y).sum(),
    ),
    "class weights, smoothed": Right(
        lambda: pair(
            plain,
            partial(ce, weight=torch.tensor([1.0, 5.0, 0.25]).double(), label_smoothing=0.2),
            chunk_size=5,
        ),
        lambda m: ce(m(X), Y, torch.tensor([1.0, 5.0, 0.25]).double(), label_smoothing=0.2),
    ),
    "ignored targets, late": Right(
        lambda: pair(plain, ce, (data_of(200)[0], LATE), chunk_size=3),
        lambda m: ce(m(data_of(200)[0]), LATE),
    ),
    "ignored positions": Right(
        lambda: pair(
            lambda m, x: plain(m, x)[:, :, None] * torch.arange(1, 5),
            nn.CrossEntropyLoss(ignore_index=2),
            (X, data_of(4 * N)[1].view(N, 4)),
            chunk_size=5,
        ),
        lambda m: ce(m(X), data_of(4 * N)[1].view(N, 4), ignore_index=2),
    ),
    "weights in another precision and NLL": Right(
        lambda: pair(
            lambda m, x: plain(m, x).log_softmax(1), nn.NLLLoss(torch.tensor([1.0, 5.0, 0.25])), chunk_size=7
        ),
        lambda m: F.nll_loss(m(X), Y, torch.tensor([1.0, 5.0, 0.25]).double()),
    ),
    "embedding with max_norm": Right(
        lambda: Objective(_table(max_norm=0.5), ce, (TOKENS, Y)), lambda m: ce(m(TOKENS), Y)
    ),
    "embedding by frequency": Right(
        lambda: Objective(_table(scale_grad_by_freq=True), ce, (TOKENS, Y)), lambda m: ce(m(TOKENS), Y)
    ),
    "derivative inside the model": Right(
        lambda: pair(_pinn, F.mse_loss, (X, torch.zeros(N, 8, dtype=torch.float64))), _pinn_loss
    ),
    "inputs changed in place": Right(
        lambda: pair(lambda m, x: plain(m, x.mul_(2))), lambda m: ce(m(X.clone()), Y)
    ),
    "checkpoint": Right(
        lambda: pair(lambda m, x: m.b(checkpoint(lambda z: torch.tanh(m.a(z)), x, use_reentrant=False))),
        lambda m: ce(m(X), Y),
    ),
    "old weight norm": Right(
        lambda: Objective(_old(nn.utils.weight_norm), ce, (X, Y)), lambda m: ce(m(X), Y)
    ),
    "old spectral norm": Right(
        lambda: Objective(_old(nn.utils.spectral_norm), ce, (X, Y)), lambda m: ce(m(X), Y)
    ),
    "number of samples as a tensor": Right(
        lambda: batch(lambda m, b: (ce(m(b[0]), b[1]), torch.tensor(len(b[0]))), in_two(X, Y, 7)),
        lambda m: ce(m(X), Y),
    ),
    "one dictionary": Right(
        lambda: batch(lambda m, b: (ce(m(b["x"]), b["y"]), len(b["y"])), {"x": X, "y": Y}),
        lambda m: ce(m(X), Y),
    ),
    "one pair for a batch loss": Right(
        lambda: batch(lambda m, b: (ce(m(b[0]), b[1]), len(b[1])), (X, Y)), lambda m: ce(m(X), Y)
    ),
    "outputs by name": Right(
        lambda: pair(lambda m, x: {"logits": plain(m, x), "n": len(x)}, lambda o, t: ce(o["logits"], t)),
        lambda m: ce(m(X)["logits"], Y),
    ),
    "losses in training only": Right(
        lambda: batch(detection, model=Detector().double(), mode="train", dropout=True),
        lambda m: m.train()(X, Y)["classification"],
    ),
    "batches of one": Right(
        lambda: pair(plain, ce, [(X[i : i + 1], Y[i : i + 1]) for i in range(N)]), lambda m: ce(m(X), Y)
    ),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_is_measured_right_and_leaves_the_model_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    case = RIGHT[name]
    obj = case.build()
    before = {key: value.clone() for key, value in obj.model.state_dict().items()}
    attributes = {module: dict(vars(module)) for module in obj.model.modules()}
    inputs = X.clone()
    twin = (
        copy.deepcopy(obj.model) if "old" not in name else _old(getattr(nn.utils, name[4:].replace(" ", "_")))
    )
    twin.load_state_dict(before)
    twin.eval()
    parameters = dict(twin.named_parameters())

    def loss(point: Tensor) -> float:
        with torch.no_grad():
            for key, value in obj.layout.split(point).items():
                parameters[key].copy_(value)
        return float(case.loss(twin).detach())

    theta, step = obj.flat(), 1e-4
    v = torch.randn(obj.size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    up, here, down = loss(theta + step * v), loss(theta), loss(theta - step * v)
    assert obj.loss() == pytest.approx(here, rel=1e-10)
    assert float(obj.gradient() @ v) == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-6)
    assert float(v @ obj.hvp(v)) == pytest.approx((up - 2 * here + down) / step**2, rel=1e-4, abs=1e-5)
    assert all(torch.equal(before[key], value) for key, value in obj.model.state_dict().items())
    assert {module: dict(vars(module)) for module in obj.model.modules()} == attributes
    assert torch.equal(X, inputs)
    assert not X.requires_grad


@pytest.mark.parametrize("check", ["quick", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("saturated", [False, True])
def test_kinks_at_the_measured_point_and_saturated_losses_are_not_taken_for_wrong_derivatives(
    check: Any, dtype: torch.dtype, saturated: bool
) -> None:
    """Zero biases below zero pixels: every ReLU there, and every maximum, has its kink exactly at the point."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    ).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
        if saturated:
            model[-1].weight.mul_(1e4)  # type: ignore[operator, union-attr]
    x = torch.zeros(70, 1, 8, 8, dtype=dtype)
    x[:, :, 3:5, 3:6] = data_of(70, 6)[0].to(dtype).view(70, 1, 2, 3)
    y = model(x).argmax(1) if saturated else data_of(70)[1]
    obj = Objective(model, ce, (x, y), check=check)
    assert bool(torch.isfinite(obj.hvp(torch.ones(obj.size))).all())


def test_random_numbers_of_every_kind_in_a_forward_pass_are_the_same_on_every_call() -> None:
    def noisy(m: Any, x: Tensor) -> Tensor:
        return plain(m, x * (1 + random.random() + np.random.rand() + torch.rand(())))

    obj = pair(noisy)
    first = obj.loss()
    draws = random.random(), np.random.rand(), torch.rand(())
    assert obj.loss() == first
    assert len(draws) == 3
