"""Optimizers of a run: SAM and its variants by name, and a factory of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from sharpscope.errors import InputError
from sharpscope.serialization import explain
from sharpscope.training import train
from training.own_module import own_module
from training.small_runs import bits, classification, config, noisy_network, perceptron
from training.test_resume import in_pieces


def named(name: str, **options: Any) -> Any:
    return config(optimizer={"name": name, "lr": 0.1, "options": options})


def test_spelling_does_not_make_a_new_run() -> None:
    assert named("SAM", base="SGD", rho=1).run_id() == named("sam", base="sgd", rho=1.0).run_id()
    assert named("sam", rho=0.1).run_id() != named("sam", rho=0.2).run_id()
    assert named("sam", rho=0.1).run_id() != named("asam", rho=0.1).run_id()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rho": -1.0}, "ρ must be finite and at least 0"),
        ({"base": "sam"}, "the base of sam is the name of another optimizer"),
        ({"base": 3}, "the base of sam is the name of another optimizer"),
        ({"betas": [0.9, 0.99]}, "sam has no option betas"),
        ({"model": "mlp"}, "sam has no option model"),
        ({"rescale": "some"}, "rescale must be one of"),
        ({"decay_in_ascent": 1}, "decay_in_ascent must be true or false"),
        ({"base": "adam", "betas": [2.0, 0.9]}, "Invalid beta"),
    ],
)
def test_what_it_does_not_take_is_told_in_one_sentence(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        named("sam", **options)
    assert told in explain(refused.value)


def test_the_base_is_found_by_name_and_gets_its_options() -> None:
    weights = {}
    for base, options in {"sgd": {"momentum": 0.9}, "adamw": {"betas": [0.8, 0.9]}, "adagrad": {}}.items():
        model = perceptron()
        outcome = train(named("sam", base=base, rho=0.1, **options), classification(), model)
        assert outcome.status == "finished"
        weights[base] = tuple(bits(model).values())
    assert len(set(weights.values())) == 3


def test_without_a_radius_a_run_is_its_base_s() -> None:
    """With dropout and batch normalisation; the order of the data depends on the run, so one batch holds all."""
    plain, ours = noisy_network(), noisy_network()
    for module in (plain, ours):
        module[3].p = module[5].p = 0.0
    changes = {"batch_size": "full", "stop": {"epochs": 5}}
    train(
        config(optimizer={"name": "sgd", "lr": 0.1, "options": {"momentum": 0.9}}, **changes),
        classification(),
        plain,
    )
    train(
        config(optimizer={"name": "sam", "lr": 0.1, "options": {"momentum": 0.9, "rho": 0.0}}, **changes),
        classification(),
        ours,
    )
    assert bits(plain) == bits(ours)


def test_running_statistics_move_once_a_step() -> None:
    model = noisy_network()
    train(config(optimizer={"name": "asam", "lr": 0.1}, stop={"epochs": 1}), classification(), model)
    assert int(model[1].num_batches_tracked) == 7


@pytest.mark.parametrize(("name", "own"), [("gsam", "alpha"), ("friendlysam", "sigma"), ("looksam", "alpha")])
def test_variants_by_name(name: str, own: str) -> None:
    weights = set()
    for options in ({}, {own: 0.2}, {own: 0.2, "base": "adam"}):
        model = perceptron()
        assert train(named(name, rho=0.1, **options), classification(), model).status == "finished"
        weights.add(tuple(bits(model).values()))
    assert len(weights) == 3
    with pytest.raises(ValidationError) as refused:
        named("sam", **{own: 0.2})
    assert f"sam has no option {own}" in explain(refused.value)


OWN = """
import torch

def make(parameters, lr, beta=0.9, model=None):
    assert model is not None
    return torch.optim.SGD(parameters, lr=lr, momentum=beta)

class Signs(torch.optim.Optimizer):
    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    def step(self, closure):
        loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * p.grad.sign()
                    self.state[p].setdefault("steps", 0)
                    self.state[p]["steps"] += 1
        return loss

def nothing(parameters, lr):
    return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from own_module(OWN, tmp_path, monkeypatch)


def test_a_factory_of_ones_own_trains_like_any_optimizer(own: str) -> None:
    ours, theirs = perceptron(), perceptron()
    changes = {"batch_size": "full", "schedule": {"kind": "every", "n": 1, "gamma": 0.5}}
    optimizer = {"name": f"{own}:make", "lr": 0.1, "options": {"beta": 0.5}}
    train(config(optimizer=optimizer, **changes), classification(), ours)
    named_one = {"name": "sgd", "lr": 0.1, "options": {"momentum": 0.5}}
    train(config(optimizer=named_one, **changes), classification(), theirs)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)  # one is torch's fused kernel


def test_a_class_of_ones_own_resumes_exactly(own: str, tmp_path: Path) -> None:
    run = config(optimizer={"name": f"{own}:Signs", "lr": 0.01})
    whole = noisy_network()
    train(run, classification(), whole)
    outcome, model = in_pieces(run, tmp_path / "workspace", 4)
    assert outcome.status == "finished"
    assert bits(model) == bits(whole)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("nothing", {}, "must return a torch.optim.Optimizer, received NoneType"),
        ("make", {"gamma": 1}, "received the options lr, gamma, model .*unexpected keyword argument 'gamma'"),
        ("absent", {}, "has no 'absent'"),
    ],
)
def test_a_factory_that_makes_no_optimizer_is_refused(own: str, name: str, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        train(
            config(optimizer={"name": f"{own}:{name}", "lr": 0.1, "options": options}),
            classification(),
            perceptron(),
        )


def test_a_radius_is_moved_only_where_there_is_one(own: str) -> None:
    run = config(optimizer={"name": f"{own}:make", "lr": 0.1}, rho_schedule={"kind": "cosine"})
    with pytest.raises(InputError, match="rho_schedule moves sam_rho"):
        train(run, classification(), perceptron())
