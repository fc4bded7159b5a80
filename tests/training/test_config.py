from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from sharpscope.data import DataConfig, load
from sharpscope.errors import InputError
from sharpscope.serialization import explain
from sharpscope.training import RunConfig, train, weight_seed
from training.small_runs import classification, config, perceptron

BASE = {
    "data": "digits",
    "model": "mlp",
    "optimizer": {"name": "sgd", "lr": 0.1},
    "batch_size": 8,
    "stop": {"epochs": 3},
}


def refusal(**changes: object) -> str:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate({**BASE, **changes})
    return explain(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": {"name": "sgd", "lr": float("nan")}}, "optimizer.lr must be a finite number; received nan."),
        ({"optimizer": {"name": "sgd", "lr": float("inf")}}, "optimizer.lr must be a finite number; received inf."),
        ({"optimizer": {"name": "sgd", "lr": 0}}, "optimizer.lr must be greater than 0; received 0."),
        ({"optimizer": {"name": "sgd", "lr": "0.1"}}, "optimizer.lr must be a valid number; received '0.1'."),
        ({"optimizer": {"name": "sgd", "lr": True}}, "optimizer.lr must be a valid number; received True."),
        (
            {"optimizer": {"name": "sgd"}},
            "optimizer.lr is missing: the configuration must give it.",
        ),
        (
            {"optimizer": {"name": "sgd", "lr": 0.1, "options": {"momentun": 0.9}}},
            "optimizer.options: sgd has no option momentun, its options are dampening, maximize, momentum, "
            "nesterov, weight_decay; received {'momentun': 0.9}.",
        ),
        (
            {"optimizer": {"name": "sgd", "lr": 0.1, "options": {"momentum": float("nan")}}},
            "optimizer.options.momentum must be a finite number; received nan.",
        ),
        ({"optimizer": "sgd"}, "optimizer must be a table of keys; received 'sgd'."),
        ({"batch_size": 0}, 'batch_size: a batch size is an integer of at least 1, or "full"; received 0.'),
        ({"batch_size": "all"}, 'batch_size: a batch size is an integer of at least 1, or "full"; received \'all\'.'),
        ({"batch_size": True}, 'batch_size: a batch size is an integer of at least 1, or "full"; received True.'),
        (
            {"stop": {"epoch": 3}},
            "stop.epoch (received 3) is not a key of the configuration; perhaps epochs is meant "
            "(one more key is wrong).",
        ),
        (
            {"stop": {"epochs": 3, "train_accuracy": 99}},
            "stop.train_accuracy must be less than or equal to 1; received 99.",
        ),
        ({"loss": "hinge"}, "loss: a loss is cross_entropy, mse, or package.module:function; received 'hinge'."),
        (
            {"model": {"name": "package.module:factory", "options": {"widths": [1.0, float("inf")]}}},
            "model.options.widths.1 must be a finite number; received inf.",
        ),
        (
            {"schedule": {"kind": "every", "n": 2}},
            "schedule: the schedule every needs gamma; received {'kind': 'every', 'n': 2}.",
        ),
        ({"clip_norm": 0}, "clip_norm must be greater than 0; received 0."),
        ({"clip_norm": float("inf")}, "clip_norm must be a finite number; received inf."),
        ({"label_smoothing": 1.0}, "label_smoothing must be less than 1; received 1.0."),
        ({"ema_decay": 1}, "ema_decay must be less than 1; received 1."),
        (
            {"augmentation": {"names": []}},
            "augmentation.names: an augmentation names crop, flip or both, each once; received [].",
        ),
        (
            {"augmentation": {"names": ["flip", "flip"]}},
            "augmentation.names: an augmentation names crop, flip or both, each once; received ['flip', 'flip'].",
        ),
        (
            {"augmentation": {"names": ["rotate"]}},
            "augmentation.names.0 must be 'crop' or 'flip'; received 'rotate'.",
        ),
    ],
)  # fmt: skip
def test_refusals_are_one_sentence_naming_key_value_and_rule(
    changes: dict[str, object], sentence: str
) -> None:
    assert refusal(**changes) == sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rho_schedule": {"kind": "cosine"}}, "rho_schedule moves the ρ of SAM and its variants, and sgd has none"),
        ({"clip_norm": 1.0, "optimizer": {"name": "lbfgs", "lr": 1.0}}, "falsify the line search of lbfgs"),
        (
            {"clip_norm": 1.0, "optimizer": {"name": "sam", "lr": 1.0, "options": {"base": "lbfgs"}}},
            "falsify the line search of lbfgs",
        ),
        ({"label_smoothing": 0.1, "loss": "mse"}, "label_smoothing is for cross_entropy, and the loss is mse"),
        ({"data": {"name": "digits", "subset_seed": "run"}}, "data.subset_seed"),
        ({"data": {"name": "digits", "subset_seed": "seed"}, "seed": -1}, "data.subset_seed"),
        ({"optimizer": {"name": "own:make", "lr": 0.1, "options": {"lr": 1}}}, "the optimizer's own key lr"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(changes: dict[str, object], words: str) -> None:
    assert words in refusal(**changes)


def test_subsets_may_follow_the_seed_of_the_run() -> None:
    data = {"name": "digits", "train_samples": 100, "subset_seed": "seed"}
    run = config(data=data, seed=3)
    assert run.data.subset_seed == 3
    assert run.run_id() == config(data={**data, "subset_seed": 3}, seed=3).run_id()
    assert config(data=data).data.subset_seed == 0
    assert config(data=DataConfig.model_validate(data), seed=2).data.subset_seed == 2
    with pytest.raises(InputError, match="stands for the seed of a run"):
        load(DataConfig.model_validate(data))


def test_naming_code_of_ones_own_imports_nothing() -> None:
    run = config(
        optimizer={"name": "no_such_module:make", "lr": 0.1, "options": {"beta": 0.9}},
        loss="no_such_module:loss",
    )
    assert run.optimizer.name == "no_such_module:make"
    with pytest.raises(InputError, match="'no_such_module', which cannot be imported"):
        train(run, classification(), perceptron())


def test_an_unknown_optimizer_is_refused_with_the_list_of_what_exists() -> None:
    sentence = refusal(optimizer={"name": "sdg", "lr": 0.1})
    assert sentence.startswith(
        "optimizer.name: there is no such optimizer, did you mean sgd? choose one of adadelta, "
    )
    assert " sgd, or package.module:factory; received 'sdg'." in sentence


def test_a_value_the_optimizer_refuses_is_refused_with_its_reason() -> None:
    assert "Invalid momentum value: -1.0" in refusal(
        optimizer={"name": "sgd", "lr": 0.1, "options": {"momentum": -1}}
    )
    assert "betas" in refusal(optimizer={"name": "adam", "lr": 0.1, "options": {"betas": [0.9]}})
    assert "true or false" in refusal(optimizer={"name": "sgd", "lr": 0.1, "options": {"nesterov": 1}})


@pytest.mark.parametrize("option", ["foreach", "fused", "differentiable"])
def test_how_a_step_is_executed_is_no_part_of_a_run(option: str) -> None:
    assert f"no option {option}" in refusal(optimizer={"name": "sgd", "lr": 0.1, "options": {option: True}})


def test_explanations_come_from_data_and_model_too() -> None:
    assert refusal(data="mnist").startswith("data.name: ")
    assert refusal(data="mnist").endswith(".")
    assert "'hiden'" in refusal(model={"name": "mlp", "options": {"hiden": [3]}})
    assert refusal(date="digits").startswith("date (received 'digits') is not a key")


def test_spelling_does_not_make_another_run() -> None:
    plain = config(optimizer={"name": "sgd", "lr": 1.0, "options": {"momentum": 0.0, "nesterov": False}})
    spelt = config(optimizer={"options": {"nesterov": False, "momentum": 0}, "lr": 1, "name": "SGD"})
    assert plain == spelt
    assert plain.run_id() == spelt.run_id()
    assert config(data={"name": "digits"}, model={"name": "mlp", "options": {}}).run_id() == config().run_id()


def test_every_choice_makes_another_run() -> None:
    changes: list[dict[str, object]] = [
        {"data": {"name": "digits", "train_samples": 500}},
        {"model": {"name": "mlp", "options": {"hidden": [5]}}},
        {"loss": "cross_entropy"},
        {"optimizer": {"name": "adagrad", "lr": 0.1}},
        {"optimizer": {"name": "sgd", "lr": 0.2}},
        {"optimizer": {"name": "sgd", "lr": 0.1, "options": {"momentum": 0.9}}},
        {"schedule": {"kind": "cosine"}},
        {"batch_size": "full"},
        {"drop_last": True},
        {"stop": {"epochs": 4}},
        {"seed": 1},
        {"initial_weights": "shared"},
        {"dtype": "float64"},
        {"data": {"name": "digits", "final_test": "whole"}},
        {"schedule": {"warmup": 2}},
        {"schedule": {"kind": "one_cycle"}},
        {"clip_norm": 1.0},
        {"label_smoothing": 0.1},
        {"augmentation": {"names": ["flip"]}},
        {"augmentation": {"names": ["flip"], "seed": 0}},
        {"ema_decay": 0.9},
        {"evaluate_every": 2},
    ]
    identifiers = {config(**change).run_id() for change in changes} | {config().run_id()}
    assert len(identifiers) == len(changes) + 1


def test_the_identifier_is_the_hash_of_the_whole_configuration() -> None:
    run = config()
    assert run.run_id() == hashlib.sha256(run.canonical_json().encode()).hexdigest()[:16]
    content = json.loads(run.canonical_json())
    assert RunConfig.model_validate(content) == run
    assert content["drop_last"] is False  # defaults are written out
    assert list(content) == sorted(content)


def test_lists_of_options_survive_json() -> None:
    run = config(optimizer={"name": "adam", "lr": 0.1, "options": {"betas": [0, 0.5]}})
    assert run.optimizer.options["betas"] == [0.0, 0.5]
    assert RunConfig.model_validate_json(run.canonical_json()).run_id() == run.run_id()


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        config().seed = 3


def test_weights_are_drawn_per_run_or_shared_across_settings_of_a_seed() -> None:
    faster = {"optimizer": {"name": "sgd", "lr": 0.5}}
    assert weight_seed(config()) != weight_seed(config(**faster))
    shared = {"initial_weights": "shared"}
    assert weight_seed(config(**shared)) == weight_seed(config(**shared, **faster, batch_size="full"))
    assert weight_seed(config(**shared)) != weight_seed(config(**shared, seed=1))
    wider = {"model": {"name": "mlp", "options": {"hidden": [5]}}}
    assert weight_seed(config(**shared)) != weight_seed(config(**shared, **wider))


def test_importing_the_configuration_does_not_import_torch() -> None:
    code = "import sys; from sharpscope.training import RunConfig; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_key_that_came_later_leaves_earlier_identifiers_alone() -> None:
    fields = {
        "data": "digits",
        "model": "mlp",
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": "full",
        "stop": {"epochs": 2},
    }
    plain = RunConfig.model_validate(fields)
    assert plain.run_id() == "2175eceda6a7884d"
    unset = {
        "clip_norm": None,
        "label_smoothing": 0.0,
        "augmentation": None,
        "ema_decay": None,
        "rho_schedule": None,
        "evaluate_every": 1,
    }
    data = {"name": "digits", "final_test": "sample"}
    assert RunConfig.model_validate({**fields, **unset, "data": data, "schedule": {"warmup": None}}) == plain
    assert "steps_per_epoch" not in plain.canonical_json()
    several = RunConfig.model_validate({**fields, "steps_per_epoch": 3})
    assert several.run_id() != plain.run_id()
    assert RunConfig.model_validate(several.model_dump(mode="json")) == several
    with pytest.raises(ValidationError, match="full"):
        RunConfig.model_validate({**fields, "batch_size": 8, "steps_per_epoch": 3})
