"""Models and losses that gave a silent wrong number somewhere: each is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from objective.small_functions import (
    ANOTHER,
    Detector,
    Fn,
    X,
    Y,
    activated,
    batch,
    ce,
    cube,
    detached,
    detection,
    in_numpy,
    in_two,
    once,
    pair,
    plain,
)
from sharpscope import InputError, NonFiniteError, Objective


class FusedCrossEntropy(torch.autograd.Function):
    """Cross-entropy that makes its gradient in the forward pass, as memory-saving kernels do."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, t: Tensor) -> Tensor:
        p = z.softmax(1)
        ctx.slope = (p - F.one_hot(t, z.shape[1])) / len(z)
        return -(p.log()[torch.arange(len(z)), t]).mean()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.slope, None


class Stored(Fn):
    """Keeps a weight in a list and reads it there."""

    def __init__(self, under: Callable[[Tensor], Tensor] = lambda w: w) -> None:
        super().__init__(lambda m, x: m.b(torch.tanh(x @ under(m.tensors[0]).T + m.a.bias)))
        self.tensors = [self.a.weight]


def _flash(m: Any, x: Tensor) -> Tensor:
    q = m.a(x)[None, None]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out: Tensor = m.b(F.scaled_dot_product_attention(q, q, q)[0, 0])
    return out


def _autocast(m: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        out: Tensor = m.b(torch.tanh(m.a(x)))
    return out.float()


def _clamped(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.a.weight.clamp_(-0.1, 0.1)
    out: Tensor = m.b(torch.tanh(m.a(x)))
    return out


def _no_grad(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = torch.tanh(m.a(x))
    out: Tensor = m.b(h)
    return out


class Reversed(torch.autograd.Function):
    """Reverses gradients, as domain-adversarial networks do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


def _straight_through(z: Tensor) -> Tensor:
    h = torch.tanh(z)
    return h + (h.sign() - h).detach()


def _hooked() -> nn.Module:
    model = Fn(plain).double()
    model.a.register_full_backward_hook(lambda module, given, arrived: (None,))
    model.b.register_full_backward_hook(lambda module, given, arrived: (2 * given[0],))
    return model


@dataclass
class Case:
    """What is built, and what a refusal says; ``once`` is where it comes: at building or at the first product."""

    build: Callable[[], Any]
    says: str
    once: str = "building"
    error: type[Exception] = InputError


def _sigma(z: Tensor, t: Tensor) -> Tensor:
    weights = torch.tensor([1.0, 5.0, 0.25], dtype=z.dtype)[t]
    return (weights * ce(z, t, reduction="none")).sum() / weights.sum()


REFUSED = {
    "once differentiable": Case(
        lambda: pair(activated(cube(once_differentiable(once)))),
        "Cube is marked once_differentiable",
        "product",
    ),
    "a backward in NumPy": Case(lambda: pair(activated(cube(in_numpy))), "must be symmetric", "product"),
    "saved without its graph": Case(
        lambda: pair(activated(cube(detached)), check="full"),
        "must be symmetric|derivatives of the gradient",
        "product",
    ),
    "fused loss, one layer": Case(
        lambda: Objective(nn.Linear(5, 3).double(), FusedCrossEntropy.apply, (X, Y)),
        "has norm 0 where differences",
        "product",
    ),
    "fused loss, two layers": Case(
        lambda: pair(plain, FusedCrossEntropy.apply, check="full"), "derivatives of the gradient", "product"
    ),
    "kernel without a second derivative": Case(
        lambda: pair(activated(F.hardsigmoid)), "hardsigmoid_backward is not implemented", "product"
    ),
    "forced flash attention": Case(
        lambda: pair(_flash), "flash_attention_for_cpu_backward is not implemented", "product"
    ),
    "sum, first batch of one": Case(
        lambda: pair(plain, nn.CrossEntropyLoss(reduction="sum"), in_two(X, Y, 1)), "mean over samples"
    ),
    "sum behind a dictionary": Case(
        lambda: pair(lambda m, x: {"z": plain(m, x)}, lambda o, t: ce(o["z"], t, reduction="sum")),
        "mean over samples",
    ),
    "sum behind outputs that cannot be cut": Case(
        lambda: pair(lambda m, x: (plain(m, x), torch.ones(())), lambda o, t: ce(o[0], t, reduction="sum")),
        "mean over samples",
    ),
    "sum in a batch loss": Case(
        lambda: batch(lambda m, b: (ce(m(b[0]), b[1], reduction="sum"), len(b[0]))), "mean over the batch"
    ),
    "class weights of one's own, near initialisation": Case(
        lambda: pair(lambda m, x: 1e-4 * plain(m, x), _sigma), "without class weights"
    ),
    "squared error of (n, 1) against (n,)": Case(
        lambda: pair(lambda m, x: plain(m, x)[:, :1], F.mse_loss, (X, X[:, 0])),
        r"\(24, 1\) against .* \(24,\) are broadcast",
    ),
    "another copy of the model": Case(
        lambda: batch(lambda m, b: (ce(ANOTHER(b[0]), b[1]), len(b[0]))), "another copy of the model"
    ),
    "no gradients at all": Case(
        lambda: pair(lambda m, x: plain(m, x).detach().requires_grad_()), "autograd finds no way"
    ),
    "a parameter read past its module": Case(
        lambda: Objective(Stored().double(), ce, (X, Y)), "a.weight is read past its module"
    ),
    "a parameter read past its module, detached": Case(
        lambda: Objective(Stored(Tensor.detach).double(), ce, (X, Y), check="full"), "derivative of the loss"
    ),
    "part without gradients": Case(
        lambda: pair(_no_grad), "changes with a.weight, a.bias where autograd sees none"
    ),
    "part detached": Case(
        lambda: pair(lambda m, x: m.b(torch.tanh(F.linear(x, m.a.weight.detach(), m.a.bias)))),
        "changes with a.weight where",
    ),
    "half of a use detached": Case(
        lambda: pair(lambda m, x: m.b(m.a(x) * m.a(x).detach()), check="full"), "derivative of the loss"
    ),
    "gradients reversed": Case(lambda: pair(activated(Reversed.apply)), "derivative of the loss"),
    "straight-through estimator": Case(lambda: pair(activated(_straight_through)), "derivative of the loss"),
    "a hook changes gradients": Case(lambda: Objective(_hooked(), ce, (X, Y)), "derivative of the loss"),
    "reentrant checkpoint": Case(
        lambda: pair(lambda m, x: m.b(checkpoint(lambda z: torch.tanh(m.a(z)), x, use_reentrant=True))),
        "use_reentrant=True",
    ),
    "autocast inside": Case(lambda: Objective(Fn(_autocast), ce, (X.float(), Y)), "computes in bfloat16"),
    "weights clamped in place": Case(lambda: pair(_clamped), "writes to a.weight in place"),
    "lazy layer": Case(lambda: Objective(nn.LazyLinear(3), ce, (X.float(), Y)), "'weight' of a lazy module"),
    "detection in eval mode": Case(
        lambda: batch(detection, model=Detector().double()), "pass mode='train', dropout=True"
    ),
    "no second derivative at this point": Case(
        lambda: Objective(
            nn.Linear(5, 1, bias=False).double(),
            lambda o, t: o.mean() * 0 - torch.exp(-((o * 0).norm() ** 2)),
            (X, Y),
        ),
        r"product must be finite .* although the loss is -1",
        "product",
        NonFiniteError,
    ),
    "nothing counts": Case(lambda: pair(plain, ce, (X, torch.full_like(Y, -100))), "all ignored", "product"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_is_refused_in_one_sentence(name: str) -> None:
    torch.manual_seed(0)
    case = REFUSED[name]
    if case.once == "building":
        with pytest.raises(case.error, match=case.says) as raised:
            case.build()
    else:
        obj = case.build()
        with pytest.raises(case.error, match=case.says) as raised:
            obj.hvp(torch.ones(obj.size))
    assert "\n" not in str(raised.value)
    assert ";" in str(raised.value)  # what breaks the rule, and the remedy


def test_parameters_chosen_later_are_checked_unless_they_were() -> None:
    model = Fn(_no_grad).double()
    whole = Objective(model, ce, (X, Y), params="b.*")
    assert whole.with_params("b.bias").size == 3
    with pytest.raises(InputError, match="autograd finds no way"):
        whole.with_params("a.*")


def test_without_checks_nothing_is_refused() -> None:
    torch.manual_seed(0)
    obj = pair(activated(cube(once_differentiable(once))), nn.CrossEntropyLoss(reduction="sum"), check="none")
    assert bool(torch.isfinite(obj.hvp(torch.ones(obj.size))).all())
