from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from oracles.dense import dense
from problems import PROBLEMS, Problem, _batch_norm, _dict_batches, classifier, data, uneven
from sharpscope import InputError, NonFiniteError, Objective

each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)


@each_problem
def test_loss_gradient_and_products_agree_with_the_dense_hessian(problem: Problem) -> None:
    obj = problem.objective()
    loss, gradient, hessian = dense(obj)
    assert obj.loss() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    torch.testing.assert_close(obj.gradient(), gradient, rtol=1e-10, atol=1e-13)
    block = torch.randn(3, obj.size, dtype=torch.float64)
    torch.testing.assert_close(obj.hvp(block), block @ hessian, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(obj.hvp(block[1]), hessian @ block[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("old_style", [True, False])
def test_weight_norm_products_match_differences_of_gradients(old_style: bool) -> None:
    """torch's fused weight norm has a wrong double backward; the oracle here is finite differences."""
    torch.manual_seed(0)
    norm = nn.utils.weight_norm if old_style else nn.utils.parametrizations.weight_norm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(
            norm(nn.Linear(4, 3)), nn.Tanh(), norm(nn.Conv1d(1, 2, 2)), nn.Flatten()
        ).double()
    model.insert(2, nn.Unflatten(1, (1, 3)))
    obj = Objective(model, F.cross_entropy, data(19, 4))
    v, step = torch.randn(obj.size, dtype=torch.float64), 1e-6
    difference = (obj.gradient(obj.flat() + step * v) - obj.gradient(obj.flat() - step * v)) / (2 * step)
    torch.testing.assert_close(obj.hvp(v), difference, rtol=1e-6, atol=1e-8)


@each_problem
def test_values_repeat_and_can_be_taken_elsewhere(problem: Problem) -> None:
    obj = problem.objective()
    first = obj.loss()
    moved = obj.flat() + 0.1
    elsewhere = obj.loss(moved)
    assert obj.loss() == first == obj.loss(obj.flat())
    named = dict(obj.model.named_parameters())
    with torch.no_grad():
        for name, value in obj.layout.split(moved).items():
            named[name].copy_(value)
    assert obj.loss() == elsewhere


def test_uneven_batches_count_by_size() -> None:
    x, y = data(250, 4)
    model = nn.Linear(4, 3).double()
    y[240:] = (y[240:] + 1) % 3
    even = Objective(model, F.cross_entropy, (x, y)).loss()
    assert Objective(model, F.cross_entropy, uneven(x, y, (240, 10))).loss() == pytest.approx(even, rel=1e-12)
    by_batch = (F.cross_entropy(model(x[:240]), y[:240]) + F.cross_entropy(model(x[240:]), y[240:])) / 2
    assert float(by_batch) != pytest.approx(even, rel=1e-3)


def test_modes_are_declared_and_differ() -> None:
    torch.manual_seed(0)
    model, loss, batches = _batch_norm(0.5)
    for flag in (True, False):
        model.train(flag)
        values = [
            Objective(model, loss, batches, "eval").loss(),
            Objective(model, loss, batches, "train").loss(),
            Objective(model, loss, batches, "train", dropout=True).loss(),
        ]
        assert len({round(v, 6) for v in values}) == 3
        if flag:
            inherited = values
    assert values == inherited


def test_bfloat16_weights_are_measured_in_float32_at_their_exact_values() -> None:
    torch.manual_seed(0)
    x, y = data(19, 4)
    half = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(torch.bfloat16)
    obj = Objective(half, F.cross_entropy, (x.to(torch.bfloat16), y))
    assert obj.dtype == obj.gradient().dtype == torch.float32
    single = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    single.load_state_dict(half.state_dict())
    twin = Objective(single, F.cross_entropy, (x.to(torch.bfloat16).float(), y))
    torch.testing.assert_close(obj.gradient(), twin.gradient())
    assert half[0].weight.dtype == torch.bfloat16


def test_a_product_of_a_linear_loss_is_zero() -> None:
    x, _ = data(8, 4)
    obj = Objective(nn.Linear(4, 1).double(), lambda o, t: o.mean(), (x, x[:, :1]))
    assert float(obj.hvp(torch.ones(obj.size)).abs().max()) == 0


def test_measures_under_no_grad_autocast_and_inference_mode() -> None:
    obj = PROBLEMS[1].objective()
    plain = obj.hvp(obj.flat())
    with torch.no_grad(), torch.autocast("cpu"):
        torch.testing.assert_close(obj.hvp(obj.flat()), plain)
    with torch.inference_mode():
        torch.testing.assert_close(obj.hvp(obj.flat()), plain)


def test_a_loader_too_large_to_keep_is_checked_on_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpscope.objective import batches as module

    drifting = TensorDataset(*data(19, 4))
    kept = Objective(nn.Linear(4, 3).double(), F.cross_entropy, DataLoader(drifting, 8))
    streamed = module.FixedBatches(DataLoader(drifting, 8), pairs=True, keep_bytes=100)
    obj = Objective(kept.model, F.cross_entropy, DataLoader(drifting, 8))
    obj.evaluator.batches = streamed
    assert obj.loss() == kept.loss()
    assert obj.evaluator.batches.digest == kept.evaluator.batches.digest
    drifting.tensors[0][3] += 1
    with pytest.raises(InputError, match="different batches"):
        obj.loss()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "mean over samples"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, "scalar tensor"),
        (
            {"loss": lambda o, t: nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]).double())(o, t)},
            "without class weights",
        ),
        ({"check": "some"}, "check must be one of quick, full, none"),
        ({"loss": 3}, "callable"),
        ({"mode": "test"}, "'eval' or 'train'"),
        ({"dropout": True}, "mode='train'"),
        ({"params": ["nothing"]}, "must name parameters"),
        ({"params": lambda name, p: False}, "at least one parameter"),
        ({"batches": []}, "at least one batch"),
        ({"batches": [data(3, 4)[0]]}, "pair"),
        ({"batches": 3}, "iterable of batches"),
        ({"batches": (data(3, 4)[0], data(4, 4)[1])}, "same number"),
        ({"batches": (data(3, 4)[0] * torch.nan, data(3, 4)[1])}, "finite"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"dtype": torch.float16}, "float32 or torch.float64"),
    ],
)
def test_bad_input_gives_one_sentence(change: dict, sentence: str) -> None:
    model, loss, batches = classifier(nn.Linear(4, 3))
    arguments = {"model": model, "loss": loss, "batches": batches, **change}
    with pytest.raises(InputError, match=sentence) as raised:
        Objective(**arguments)
    assert "\n" not in str(raised.value)


def test_vectors_of_the_wrong_length_are_refused() -> None:
    obj = PROBLEMS[0].objective()
    for bad in (torch.ones(3), torch.ones(2, 3), torch.ones(())):
        with pytest.raises(InputError, match="shape"):
            obj.hvp(bad)
    with pytest.raises(InputError, match="shape"):
        obj.loss(torch.ones(3))


def test_non_finite_weights_are_named() -> None:
    obj = PROBLEMS[0].objective()
    with torch.no_grad():
        next(iter(obj.model.parameters())).fill_(torch.nan)
    for method in (obj.loss, obj.gradient, lambda: obj.hvp(torch.ones(obj.size))):
        with pytest.raises(NonFiniteError, match="finite"):
            method()


def test_batch_loss_must_weigh_its_batch() -> None:
    model, _, batches = _dict_batches()
    for weight in (0, float("nan"), None, torch.ones(2)):
        with pytest.raises(InputError, match="n_samples"):
            Objective.from_batch_loss(model, batches, lambda m, b, w=weight: (m(b["tokens"]).mean(), w))
    for weight in (3, torch.tensor(3), np.int64(3), np.array([3.0])):
        obj = Objective.from_batch_loss(model, batches, lambda m, b, w=weight: (m(b["tokens"]).mean(), w))
        obj.loss()
        assert obj.n_samples == 6


def test_subset_is_the_objective_of_those_samples() -> None:
    x, y = data(19, 4)
    model = nn.Linear(4, 3).double()
    chosen = torch.tensor([3, 17, 0, 8])
    whole = Objective(model, F.cross_entropy, uneven(x, y))
    direct = Objective(model, F.cross_entropy, (x[chosen], y[chosen]))
    assert whole.subset(chosen).loss() == pytest.approx(direct.loss(), rel=1e-14)
    assert whole.subset(chosen).n_samples == 4
    assert whole.n_samples == 19


def test_fingerprint_changes_with_everything_that_defines_the_function_and_nothing_else() -> None:
    def build(**changes):
        torch.manual_seed(0)
        model, loss, batches = _batch_norm(0.2)
        changes.pop("touch", lambda m: None)(model)
        arguments = {"loss": loss, "batches": batches, **changes}
        return Objective(model, **arguments).fingerprint

    x, y = data(19, 4)
    same = [build(), build(), build(touch=lambda m: m.eval()), build(chunk_size=3)]
    assert len(set(same)) == 1
    different = [
        build(),
        build(mode="train"),
        build(mode="train", batches=(x, y)),
        build(mode="train", dropout=True),
        build(mode="train", dropout=True, dropout_seed=1),
        build(params="0.*"),
        build(dtype=torch.float32),
        build(batches=(x, (y + 1) % 3)),
        build(loss=partial(F.cross_entropy, label_smoothing=0.1)),
        build(loss=nn.CrossEntropyLoss(label_smoothing=0.2)),
        build(loss=lambda o, t: F.cross_entropy(o, t)),
        build(loss=lambda o, t: 2 * F.cross_entropy(o, t)),
        build(touch=lambda m: m[1].running_mean.add_(1e-3)),
        build(touch=lambda m: m[0].weight.data.add_(1e-12)),
    ]
    assert len(set(different)) == len(different)


def test_other_parameters_of_the_same_function() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    obj = Objective(model, nn.functional.mse_loss, (torch.ones(4, 2), torch.zeros(4, 1)), params="1.*")
    everything = obj.with_params()
    assert (obj.size, everything.size, obj.with_params("0.bias").size) == (4, 13, 3)
    assert everything.loss() == obj.loss()
    assert torch.equal(everything.gradient()[-4:], obj.gradient())
