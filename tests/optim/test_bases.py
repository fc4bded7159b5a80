"""Bases of many habits, states from elsewhere, unusual parameters: the reference's step every time."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from optim.test_refusals import check, loss_of, network, reference
from sharpscope import ASAM, SAM, LookSAM
from sharpscope.errors import InputError

RHO, LR = 0.5, 0.1


def closure_of(optimizer: Any, model: nn.Module) -> Any:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    return closure


class Descent(torch.optim.Optimizer):
    """Gradient descent; subclasses differ in what they do with a closure."""

    def __init__(self, params: Any, lr: float = LR) -> None:
        super().__init__(params, {"lr": lr})

    def descend(self) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p -= group["lr"] * p.grad


class CallsItBareUnderNoGrad(Descent):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        self.descend()
        return loss


class IgnoresIt(Descent):
    def step(self, closure: Any = None) -> Any:
        self.descend()


class TakesNone(Descent):
    def step(self) -> Any:  # type: ignore[override]
        self.descend()


class NeedsIt(Descent):
    def step(self, closure: Any) -> Any:
        closure()
        self.descend()


class EvaluatesTwice(Descent):
    """Steps from where it stands, then again by a gradient found there."""

    def step(self, closure: Any = None) -> Any:
        loss = closure()
        self.descend()
        closure()
        self.descend()
        return loss


class MovesFirst(Descent):
    """Adds 1 to all weights before it asks for its gradient, and takes it away after."""

    def step(self, closure: Any = None) -> Any:
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p += 1
        loss = closure()
        self.descend()
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p -= 1
        return loss


@pytest.mark.parametrize("base", [CallsItBareUnderNoGrad, IgnoresIt, TakesNone, NeedsIt, torch.optim.SGD])
@pytest.mark.parametrize("around", ["no_grad", "enable_grad"])
def test_bases_of_every_habit_get_the_gradient_at_the_second_place(base: Any, around: str) -> None:
    model = network()
    expected = reference(model, RHO, LR)
    optimizer = SAM(model.parameters(), base, rho=RHO, lr=LR)
    with getattr(torch, around)():
        loss = optimizer.step(closure_of(optimizer, model))
    check(model, expected)
    assert loss.item() == loss_of(network()).item()


@pytest.mark.parametrize("base", [CallsItBareUnderNoGrad, IgnoresIt, TakesNone])
def test_the_same_bases_in_two_steps(base: Any) -> None:
    model = network()
    expected = reference(model, RHO, LR)
    optimizer = SAM(model.parameters(), base, rho=RHO, lr=LR)
    loss_of(model).backward()
    optimizer.first_step()
    loss_of(model).backward()
    optimizer.second_step()
    check(model, expected)


def test_a_base_that_evaluates_several_times() -> None:
    model = network()
    once = reference(model, RHO, LR)
    middle = network().double()
    middle.load_state_dict(once)
    expected = reference(middle, RHO, LR)
    optimizer = SAM(model.parameters(), EvaluatesTwice, rho=RHO, lr=LR)
    optimizer.step(closure_of(optimizer, model))
    check(model, expected)
    for needs in (NeedsIt, torch.optim.LBFGS):
        optimizer = SAM(model.parameters(), needs, lr=LR)
        with pytest.raises(InputError, match=r"step\(closure\)"):
            optimizer.first_step()


def test_a_base_that_moves_before_its_first_evaluation() -> None:
    model = network()
    shifted = network()
    with torch.no_grad():
        for p in shifted.parameters():
            p += 1
    expected = {n: p - 1 for n, p in reference(shifted, RHO, LR).items()}
    optimizer = SAM(model.parameters(), MovesFirst, rho=RHO, lr=LR)
    optimizer.step(closure_of(optimizer, model))
    check(model, expected)


def test_a_plain_optimizer_s_state_can_be_taken_over() -> None:
    plain = network()
    sgd = torch.optim.SGD(plain.parameters(), lr=LR, momentum=0.9)
    closure_of(sgd, plain)()
    sgd.step()
    model = copy.deepcopy(plain)
    groups = [
        {"params": list(model.parameters())[:2], "sam_rho": 0.2},
        {"params": list(model.parameters())[2:]},
    ]
    one, two = SAM(model.parameters(), rho=RHO, lr=0.7, momentum=0.1), SAM(groups, rho=RHO, lr=0.7)
    one.load_state_dict(sgd.state_dict())
    assert one.param_groups[0]["sam_rho"] == RHO
    assert (one.param_groups[0]["lr"], one.param_groups[0]["momentum"]) == (LR, 0.9)
    assert all("momentum_buffer" in one.state[p] for p in model.parameters())
    one.step(closure_of(one, model))
    with pytest.raises(ValueError, match="different number of parameter groups"):
        two.load_state_dict(sgd.state_dict())
    split = torch.optim.SGD([{"params": g["params"]} for g in groups], lr=LR)  # type: ignore[dict-item]
    two.load_state_dict(split.state_dict())
    assert [g["sam_rho"] for g in two.param_groups] == [0.2, RHO]
    back = torch.optim.SGD(model.parameters(), lr=0.5)
    back.load_state_dict(one.state_dict())  # and the other way
    back.step()


def test_the_checkpoint_functions_of_torch_distributed() -> None:
    """They make a fresh optimizer's state by a step with gradients of zeros."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    model = network()
    options: dict[str, Any] = {"rho": RHO, "lr": 0.01}
    optimizer = SAM(model.parameters(), torch.optim.Adam, **options)
    optimizer.step(closure_of(optimizer, model))
    saved = copy.deepcopy((model.state_dict(), get_optimizer_state_dict(model, optimizer)))
    optimizer.step(closure_of(optimizer, model))
    fresh = network(seed=5)
    other = SAM(fresh.parameters(), torch.optim.Adam, **options)
    get_optimizer_state_dict(fresh, other)
    fresh.load_state_dict(saved[0])
    set_optimizer_state_dict(fresh, other, saved[1])
    other.step(closure_of(other, fresh))
    for p, q in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", [SAM, ASAM])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.SparseAdam, torch.optim.Adagrad])
def test_sparse_gradients_take_the_dense_ones_steps(kind: Any, base: Any) -> None:
    models = []
    for sparse in (True, False):
        torch.manual_seed(0)
        embedding = nn.Embedding(6, 3, sparse=sparse).double()
        twin = torch.optim.Adam if base is torch.optim.SparseAdam and not sparse else base
        optimizer = kind(embedding.parameters(), twin, rho=RHO, lr=LR)

        def closure(embedding: nn.Module = embedding, optimizer: Any = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = embedding(torch.tensor([1, 4, 1, 2])).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        closure()
        optimizer.first_step()
        closure()
        optimizer.second_step()
        models.append(embedding)
    rows = [1, 2, 4]  # the lazy Adam leaves the others alone
    torch.testing.assert_close(models[0].weight[rows], models[1].weight[rows], rtol=0, atol=1e-6)
    assert (models[0].weight[rows] - nn.Embedding(6, 3).weight[rows]).abs().max() > 0.01


def test_sparse_and_dense_gradients_share_one_norm() -> None:
    torch.manual_seed(0)
    embedding, linear = nn.Embedding(4, 2, sparse=True), nn.Linear(2, 1)
    optimizer = SAM([*embedding.parameters(), *linear.parameters()], rho=RHO, lr=LR)
    before = torch.cat([p.detach().flatten() for p in (embedding.weight, *linear.parameters())])
    linear(embedding(torch.tensor([1, 3, 3]))).sum().backward()
    optimizer.first_step()
    after = torch.cat([p.detach().flatten() for p in (embedding.weight, *linear.parameters())])
    assert (after - before).norm().item() == pytest.approx(RHO)
    optimizer.restore()
    decaying = SAM(embedding.parameters(), lr=LR, weight_decay=0.1, decay_in_ascent=True)
    linear(embedding(torch.tensor([1]))).sum().backward()
    with pytest.raises(InputError, match="dense gradients"):
        decaying.first_step()
    decaying.state_dict()


@pytest.mark.parametrize("kind", [SAM, ASAM])
def test_complex_parameters(kind: Any) -> None:
    """As of the real and imaginary parts; ASAM's |θ| is the modulus."""
    theta = nn.Parameter(torch.tensor([1.0 + 2j, -0.5j], dtype=torch.complex128))
    before = theta.detach().clone()
    optimizer = kind([theta], rho=RHO, lr=LR)
    (theta.abs().square().sum() / 2).backward()
    g, t = theta.grad.clone(), before.abs() + 0.01 if kind is ASAM else torch.ones(2).double()
    optimizer.first_step()
    torch.testing.assert_close(theta.detach(), before + RHO * t**2 * g / torch.linalg.vector_norm(t * g))
    (theta.abs().square().sum() / 2).backward()
    second = theta.grad.clone()
    optimizer.second_step()
    torch.testing.assert_close(theta.detach(), before - LR * second)


def test_maximizing_looks_for_the_lowest_value_nearby() -> None:
    theta = nn.Parameter(torch.ones(1))
    optimizer = SAM([theta], rho=RHO, lr=LR, maximize=True)
    (-theta.square() / 2).sum().backward()
    optimizer.first_step()
    assert theta.item() == pytest.approx(1.5)
    (-theta.square() / 2).sum().backward()
    optimizer.second_step()
    assert theta.item() == pytest.approx(1 - LR * 1.5)


@pytest.mark.parametrize("flags", [{"foreach": True}, {"foreach": False}, {"fused": True}, {"amsgrad": True}])
def test_flags_of_the_base(flags: dict[str, Any]) -> None:
    weights = []
    for options in (flags, {k: v for k, v in flags.items() if k == "amsgrad"}):
        model = network().double()
        optimizer = SAM(model.parameters(), torch.optim.Adam, rho=RHO, lr=0.01, **options)
        for _ in range(3):
            optimizer.step(closure_of(optimizer, model))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-12)


def test_a_rate_that_is_a_tensor_and_schedules() -> None:
    """CyclicLR and OneCycleLR read and write defaults and groups; so does a schedule of ρ."""
    model = network()
    optimizer = SAM(model.parameters(), rho=RHO, lr=torch.tensor(LR), momentum=0.9)
    optimizer.step(closure_of(optimizer, model))
    optimizer = SAM(model.parameters(), rho=RHO, lr=LR, momentum=0.9)
    assert "momentum" in optimizer.defaults
    cyclic = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=2)
    radius = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    for step in range(3):
        optimizer.step(closure_of(optimizer, model))
        cyclic.step()
        radius.step()
        optimizer.param_groups[0]["sam_rho"] = RHO / (step + 2)
    assert optimizer.base.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert optimizer.param_groups[0]["momentum"] != 0.9  # the cycle's


def test_a_group_added_between_steps_moves_and_counts() -> None:
    model = network()
    first, last = list(model.parameters())[:2], list(model.parameters())[2:]
    optimizer = SAM(first, rho=RHO, lr=LR)
    optimizer.step(closure_of(optimizer, model))
    model.load_state_dict(network().state_dict())
    optimizer.add_param_group({"params": last})
    expected = reference(network(), RHO, LR)
    model.zero_grad()
    optimizer.step(closure_of(optimizer, model))
    check(model, expected)


def test_hooks_on_steps_run_once() -> None:
    model = network()
    optimizer, calls = SAM(model.parameters(), rho=RHO, lr=LR), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.register_state_dict_post_hook(lambda *_: calls.append("saved"))
    optimizer.register_load_state_dict_pre_hook(lambda *_: calls.append("loaded"))
    optimizer.step(closure_of(optimizer, model))
    assert calls == ["before", "after"]
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["before", "after", "saved", "loaded"]


def test_copies_made_between_the_two_steps_go_on_alike() -> None:
    model = network()
    optimizer = SAM(model.parameters(), rho=RHO, lr=LR, momentum=0.9)
    loss_of(model).backward()
    optimizer.first_step()
    buffer = io.BytesIO()
    torch.save((model, optimizer), buffer)
    buffer.seek(0)
    copies = [
        (model, optimizer),
        copy.deepcopy((model, optimizer)),
        pickle.loads(pickle.dumps((model, optimizer))),
        torch.load(buffer, weights_only=False),
    ]
    expected = reference(network(), RHO, LR)
    for m, o in copies:
        loss_of(m).backward()
        o.second_step()
        check(m, expected)


def test_a_compiled_step_is_the_step() -> None:
    model = network()
    expected = reference(model, RHO, LR)
    optimizer = SAM(model.parameters(), rho=RHO, lr=LR)
    step = torch.compile(lambda: optimizer.step(closure_of(optimizer, model)), backend="eager")
    step()
    check(model, expected)


def test_closures_that_return_nothing_or_numbers() -> None:
    model = network()
    for answer in (None, 0.5):
        model.load_state_dict(network().state_dict())
        optimizer = SAM(model.parameters(), rho=RHO, lr=LR)
        evaluate = closure_of(optimizer, model)

        def closure(answer: Any = answer, evaluate: Any = evaluate) -> Any:
            evaluate()
            return answer

        assert optimizer.step(closure) == answer
        check(model, reference(network(), RHO, LR))
        optimizer.step([closure, closure])


def test_a_batch_that_is_skipped_is_no_step() -> None:
    """A closure without a backward pass, as of Lightning's training_step that returns None."""
    model = network()
    optimizer = SAM(model.parameters(), torch.optim.AdamW, rho=RHO, lr=LR)
    assert optimizer.step(optimizer.zero_grad) is None
    for p, q in zip(model.parameters(), network().parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_base_that_is_sam_itself_is_refused() -> None:
    with pytest.raises(InputError, match="must be another optimizer"):
        SAM(network().parameters(), LookSAM, lr=LR)
