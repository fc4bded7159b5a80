"""Every registered measure on every problem: sane rows, and a model without a trace of having been measured."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from problems import PROBLEMS, Problem, data
from sharpscope import InputError, Objective, audit, measure
from sharpscope.measures import REGISTRY, checked

QUICK: dict[str, dict[str, Any]] = {
    "trace": {"samples": 4},
    "frobenius_norm": {"samples": 4},
    "average_direction": {"samples": 4, "radius": 0.5},
    "worst_case": {"batch_size": 3, "restarts": 2, "steps": 2},
    "geodesic_sharpness": {"batch_size": 3, "restarts": 2, "steps": 2},
    "hammoud2023": {"model": "gat", "protocol": "as_coded"},
    "lambda_max_between_iterates": {"points": 2, "batch_size": None},
    "quadratic_bound": {"steps": 2},
    "rescaling_change": {"options": {"batch_size": None, "steps": 2}},
    "batch_sharpness": {"batch_size": 3, "restarts": 3},
    "hessian_diagonal": {"samples": 8},
    "by_layer": {"samples": 2},
    "adaptive_trace": {"samples": 4},
    "effective_dimension": {"probes": 2, "steps": 3},
    "gauss_newton_split": {"samples": 2},
    "relative_flatness": {"samples": 2},
    "normalised_sharpness": {"samples": 8},
    "fisher_trace": {"samples": 4},
    "gradient_disparity": {"batch_size": 2, "batches": 3},
    "information_sharpness": {"k": 2},
    "epsilon_sharpness": {"steps": 2},
    "low_pass_flatness": {"samples": 4, "sigma": 0.3},
    "local_entropy": {"samples": 4},
    "pac_bayes_sigma": {"samples": 4, "rtol": 0.05},
    "pac_bayes_sigma_magnitude": {"samples": 4, "rtol": 0.5},
    "sharpness_radius": {"steps": 2, "rtol": 0.05},
    "sharpness_radius_magnitude": {"steps": 2, "rtol": 0.5},
    "valley_asymmetry": {"samples": 4, "radius": 5.0},
}
FREE = {"weight_kurtosis", "weight_norm", "path_norm", "distance_from_initialisation"}
"""Measures that look at weights alone."""

RESCALABLE = {
    *("mlp relu", "chunked", "convolution", "batch norm eval"),
    *("batch norm train", "batch norm train, dropout off", "dropout on, seeded"),
}


NEED_OUTPUTS = {
    *("margin", "path_norm", "geometric_complexity", "input_jacobian", "gauss_newton_split"),
    *("fisher_trace", "fisher_rao_norm", "gradient_covariance_trace", "gradient_disparity"),
    "information_sharpness",
}
"""Measures that look at the model's outputs apart from the loss."""

CLASSIFIERS_ONLY = {"margin"}

UNDEFINED_UNDER_RESCALING = {"distance_from_initialisation", "rescaling_change"}
"""Needs the initial weights; and a change that is rounding, whose own change is anything."""

SEPARABLE_ONLY = {
    *("gradient_covariance_trace", "information_sharpness", "geometric_complexity", "input_jacobian"),
}

REGRESSIONS = {"regression mse", "shared module", "quadratic, multiple eigenvalues", "one parameter"}

HOMOGENEOUS = {
    *(
        "linear softmax",
        "mlp relu",
        "deep elu",
        "batch norm eval",
        "batch norm train",
        "convolution",
        "chunked",
    ),
    *("batch norm train, dropout off", "dropout on, seeded", "one parameter", "zero weights"),
    "quadratic, multiple eigenvalues",
}
"""Problems whose network is positively homogeneous on positive inputs and weights."""


def refusal(problem: Problem, name: str) -> str | None:
    """Return what a measure says of a problem that it cannot be taken on."""
    if name == "hammoud2023" and problem.batch_loss:
        return "from_batch_loss"
    if name == "rescaling_change" and problem.name not in RESCALABLE:
        return r"nothing to rescale|torch\.fx|leave the function"
    if name == "weight_kurtosis" and problem.name == "one parameter":
        return "differ"
    if name == "distance_from_initialisation":
        return "started from"
    if problem.batch_loss and name in NEED_OUTPUTS:
        return "from_batch_loss"
    if name in CLASSIFIERS_ONLY and problem.name in REGRESSIONS:
        return "for classifiers only"
    if name in SEPARABLE_ONLY and (problem.mode == "train" or "without statistics" in problem.name):
        return "do not interact"
    if name == "relative_flatness" and problem.name == "selected by predicate":
        return "weight matrix"
    if name == "rounding_rise" and problem.name == "selected by predicate":
        return "weight matrix"
    if name == "normalised_sharpness" and problem.name == "selected by predicate":
        return "weight matrices"
    if name == "path_norm" and problem.name not in HOMOGENEOUS:
        return "positively homogeneous|running statistics"
    return None


def quick(name: str, obj: Objective) -> dict[str, Any]:
    options = dict(QUICK.get(name, {}))
    if obj.evaluator.loss is None and "batch_size" in options:
        options["batch_size"] = None
    return {"measure": name, **options}


def snapshot(model: nn.Module) -> list[Any]:
    """Everything a measurement must not move."""
    state = [(n, p, p.detach().clone(), p.requires_grad, p.grad) for n, p in model.named_parameters()]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    buffers = [(n, b, b.clone()) for n, b in model.named_buffers()]
    flags = [m.training for m in model.modules()]
    randomness = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    return [state, grads, buffers, flags, randomness, torch.is_grad_enabled()]


def assert_untouched(model: nn.Module, before: list[Any]) -> None:
    state, grads, buffers, flags, randomness, grad_enabled = before
    for (name, parameter), (old_name, old, value, requires_grad, grad) in zip(
        model.named_parameters(), state, strict=True
    ):
        assert name == old_name
        assert parameter is old
        assert torch.equal(parameter, value), name
        assert parameter.requires_grad == requires_grad
        assert parameter.grad is grad
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        if grad is not None:
            assert torch.equal(parameter.grad, grad)
            assert parameter.grad.grad_fn is None
    for (name, buffer), (_, old, value) in zip(model.named_buffers(), buffers, strict=True):
        assert buffer is old
        assert torch.equal(buffer, value), name
    assert [m.training for m in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), randomness[0])
    assert np.random.get_state()[1].tolist() == randomness[1]
    assert random.getstate() == randomness[2]
    assert torch.is_grad_enabled() == grad_enabled


def prepared(problem: Problem) -> Objective:
    obj = problem.objective()
    model = obj.model
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0  # a mixed state that no call to train() or eval() would restore
    for i, parameter in enumerate(model.parameters()):
        if i % 2:
            parameter.grad = torch.full_like(parameter, 0.25)
    return obj


class Failure(Exception):
    pass


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_measuring_leaves_no_trace_even_when_it_raises(problem: Problem, name: str) -> None:
    obj = prepared(problem)
    before = snapshot(obj.model)
    if sentence := refusal(problem, name):
        with pytest.raises(InputError, match=sentence):
            measure(obj, [quick(name, obj)])
        assert_untouched(obj.model, before)
        return
    table = measure(obj, [quick(name, obj)])
    assert_untouched(obj.model, before)
    row = table.iloc[0]
    assert math.isfinite(row["value"])
    assert row["low"] <= row["value"] <= row["high"]
    assert row["fingerprint"] == obj.fingerprint
    assert json.loads(row["protocol"])["mode"] == problem.mode
    assert (row["losses"] + row["gradients"] + row["products"] > 0) == (name not in FREE)

    calls = {"n": 0}

    def explode(*_: object) -> None:
        calls["n"] += 1
        random.random()
        np.random.rand()
        torch.rand(1)
        if calls["n"] == 3:
            raise Failure

    handle = list(obj.model.modules())[-1].register_forward_hook(explode)
    hooked = snapshot(obj.model)
    try:
        measure(obj, [quick(name, obj)])
    except Failure:
        pass
    handle.remove()
    assert_untouched(obj.model, hooked)


@pytest.mark.parametrize("name", [n for n in REGISTRY if n not in UNDEFINED_UNDER_RESCALING])
def test_function_preserving_rescalings_change_what_the_registry_says(name: str) -> None:
    torch.manual_seed(0)
    layers = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
    obj = Objective(nn.Sequential(*layers).double(), nn.functional.cross_entropy, data(19, 4))
    row = audit(obj, [quick(name, obj)], repetitions=1).table.iloc[0]
    assert row["invariant"] == REGISTRY[name].rescaling_invariant, row["changed"]


def test_measure_gives_one_tidy_row_per_spec_and_labels_them() -> None:
    obj = PROBLEMS[1].objective()
    table = measure(
        obj,
        [
            "lambda_max",
            {"measure": "worst_case", "name": "l2", "norm": "l2", "batch_size": 4},
            quick("trace", obj),
        ],
        seed=3,
    )
    assert table["measure"].tolist() == ["lambda_max", "l2", "trace"]
    assert table["definition"].tolist() == ["lambda_max", "worst_case", "trace"]
    assert [json.loads(p)["seed"] for p in table["protocol"]] == [3, 3, 3]
    assert table["stderr"].isna().tolist() == [True, False, False]


@pytest.mark.filterwarnings("ignore::sharpscope.NotConvergedWarning")
def test_all_takes_every_registered_measure_and_says_which_it_could_not() -> None:
    torch.manual_seed(0)
    for activation in (nn.ReLU(), nn.Tanh()):
        model = nn.Sequential(nn.Linear(3, 3), activation, nn.Linear(3, 2)).double()
        x, y = torch.randn(80, 3).double(), torch.randint(0, 2, (80,))
        table = measure(Objective(model, nn.functional.cross_entropy, (x, y))).set_index("measure")
        assert table.index.tolist() == list(REGISTRY)
        missing = table[table["value"].isna()]
        reasons = {name: json.loads(text)["not taken"] for name, text in missing["protocol"].items()}
        expected = {"distance_from_initialisation": "started from"}
        if not isinstance(activation, nn.ReLU):
            expected |= {"rescaling_change": "nothing to rescale", "path_norm": "homogeneous"}
        assert reasons.keys() == expected.keys()
        assert not missing["converged"].any()
        assert all(expected[name] in text for name, text in reasons.items())


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("sharpness", "must be one of"),
        ({"radius": 1}, "under 'measure'"),
        ({"measure": "trace", "radius": 1}, "takes the options"),
    ],
)
def test_unknown_measures_and_options_are_refused_before_any_work(spec: Any, sentence: str) -> None:
    obj = PROBLEMS[0].objective()
    spent = obj.cost.losses
    with pytest.raises(InputError, match=sentence):
        measure(obj, ["trace", spec])
    assert obj.cost.losses == spent
    with pytest.raises(InputError, match=sentence):
        checked(spec)


TABLE = {
    *(
        "lambda_max",
        "by_layer",
        "batch_sharpness",
        "directional_sharpness",
        "worst_case",
        "average_direction",
    ),
    *("epsilon_sharpness", "relative_flatness", "pac_bayes_sigma", "pac_bayes_sigma_magnitude"),
    *("sharpness_radius", "sharpness_radius_magnitude", "adaptive_trace", "hessian_diagonal"),
    *("fisher_rao_norm", "fisher_trace", "gradient_covariance_trace", "gradient_disparity"),
    *("low_pass_flatness", "local_entropy", "geodesic_sharpness", "normalised_sharpness"),
    *("gauss_newton_split", "effective_dimension", "critical_sharpness", "geometric_complexity"),
    *("input_jacobian", "valley_asymmetry", "weight_norm", "path_norm", "margin"),
    *("distance_from_initialisation", "trace", "frobenius_norm", "information_sharpness"),
}
"""Every definition in use that the package promises to take by name."""


def test_every_definition_in_use_is_listed_with_what_a_reader_needs() -> None:
    assert REGISTRY.keys() >= TABLE
    for name in TABLE:
        found = REGISTRY[name]
        assert all((found.title, found.symbol, found.definition, found.source, found.cost)), name
    for name in ("lambda_max", "trace", "frobenius_norm", "effective_dimension", "hessian_diagonal"):
        assert {"matrix", "params", "preconditioner", "normalise_logits"} <= set(REGISTRY[name].options)
    for name in ("worst_case", "average_direction", "geodesic_sharpness", "adaptive_trace"):
        assert {"params", "normalise_logits"} <= set(REGISTRY[name].options)
