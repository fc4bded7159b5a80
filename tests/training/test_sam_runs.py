"""SAM and ASAM as optimizers of a run: named in the configuration, trained like any other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sharpscope.serialization import explain
from sharpscope.training import train
from training.small_runs import bits, classification, config, noisy_network, perceptron


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
