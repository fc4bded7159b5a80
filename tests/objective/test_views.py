from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError, Objective
from sharpscope.curvature import spectral_density
from sharpscope.measures import REGISTRY, take
from sharpscope.objective.views import view_of

MLP, TANH, TOKENS = (
    next(p for p in PROBLEMS if p.name == name) for name in ("mlp relu", "mlp tanh", "dict batches")
)


def normalised(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    centred = outputs - outputs.mean(1, keepdim=True)
    return F.cross_entropy(centred / centred.norm(dim=1, keepdim=True), targets)


@pytest.mark.parametrize("name", ["lambda_max", "lambda_min", "spectral_norm", "trace", "frobenius_norm"])
@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
def test_spectral_measures_take_a_block_a_preconditioner_and_normalised_logits(
    name: str, matrix: str
) -> None:
    obj = TANH.objective()
    params = ["0.weight", "2.*"]
    inside = [n in ("0.weight", "2.weight", "2.bias") for n in obj.layout.names]
    p = 0.5 + torch.rand(sum(obj.layout.sizes[i] for i in range(4) if inside[i])).double()
    spec = {
        "measure": name,
        "matrix": matrix,
        "params": params,
        "preconditioner": p,
        "normalise_logits": True,
    }
    spec |= {"samples": 300, "deflate": 0} if name in ("trace", "frobenius_norm") else {"tol": 1e-6}
    e = take(obj, spec)
    x, y = obj.evaluator.tensors()
    own = Objective(obj.model, normalised, (x, y), params=params)
    ggns = [ggn(own, v) for v in torch.eye(own.size).double()]
    exact = (torch.stack(ggns) if matrix == "ggn" else dense(own)[2]) / p.sqrt()[:, None] / p.sqrt()
    values = torch.linalg.eigvalsh((exact + exact.T) / 2)
    known = {
        "lambda_max": values[-1],
        "lambda_min": values[0],
        "spectral_norm": values.abs().max(),
        "trace": values.sum(),
        "frobenius_norm": values.norm(),
    }[name]
    room = 4.5 * e.stderr if e.stderr is not None else 1e-5 * float(values.abs().max())
    assert abs(e.value - float(known)) <= room
    assert e.protocol["params"] == params
    assert e.protocol["normalise_logits"] is True
    assert len(e.protocol["preconditioner"]) == 16


def ggn(obj: Objective, v: torch.Tensor) -> torch.Tensor:
    evaluator = obj.evaluator
    return evaluator.multiply(evaluator.gauss_newton_graphs(evaluator.leaves()), v)


def test_normalised_logits_make_perturbation_measures_blind_to_the_logits_scale() -> None:
    for spec in (
        {"measure": "average_direction", "samples": 20, "radius": 0.5, "params": "0.*"},
        {"measure": "worst_case", "batch_size": None, "radius": 0.1, "norm": "l2", "params": "0.*"},
    ):
        found = {}
        for factor in (1.0, 3.0):
            obj = MLP.objective()
            with torch.no_grad():
                obj.model[2].weight *= factor
                obj.model[2].bias *= factor
            found[factor] = [take(obj, {**spec, "normalise_logits": n}).value for n in (True, False)]
        assert found[3.0][0] == pytest.approx(found[1.0][0], rel=1e-6)
        assert abs(found[3.0][1] / found[1.0][1] - 1) > 0.1


def test_elementwise_noise_has_a_closed_form_on_a_quadratic() -> None:
    obj = next(p for p in PROBLEMS if p.name.startswith("quadratic")).objective()
    hessian = dense(obj)[2]
    spec = {"measure": "average_direction", "radius": 0.3, "samples": 4000, "elementwise": True}
    for adaptive in (False, True):
        e = take(obj, {**spec, "adaptive": adaptive})
        scale = obj.flat().abs() if adaptive else torch.ones(obj.size)
        exact = 0.5 * 0.3**2 * float((hessian.diagonal() * scale**2).sum())
        assert abs(e.value - exact) < 4.5 * e.stderr < 0.2 * exact


def test_without_options_it_is_the_objective_itself() -> None:
    obj = MLP.objective()
    assert view_of(obj) == (obj, {})
    with pytest.raises(InputError, match="from_batch_loss"):
        view_of(TOKENS.objective(), normalise_logits=True)


def test_two_losses_normalised_are_two_measured_functions() -> None:
    x, y = MLP.objective().evaluator.tensors()
    model = MLP.objective().model
    views = [
        view_of(Objective(model, loss, (x, y)), normalise_logits=True)[0].fingerprint
        for loss in (F.cross_entropy, F.multi_margin_loss, F.cross_entropy)
    ]
    assert views[0] == views[2] != views[1]


def test_every_measure_says_what_it_costs_and_where_it_comes_from() -> None:
    for measure in REGISTRY.values():
        assert measure.cost
        assert measure.definition.endswith(".")
        assert measure.title
        assert measure.symbol


@pytest.mark.parametrize("name", ["effective_dimension", "hessian_diagonal", "directional_sharpness"])
def test_other_curvature_measures_take_the_same_options(name: str) -> None:
    obj = TANH.objective()
    inside = [n in ("0.weight", "2.weight", "2.bias") for n in obj.layout.names]
    p = 0.5 + torch.rand(sum(obj.layout.sizes[i] for i in range(4) if inside[i])).double()
    options = {"params": ["0.weight", "2.*"], "preconditioner": p, "normalise_logits": True}
    view, _ = view_of(obj, **options)
    own = {"effective_dimension": {"probes": 3, "steps": 30}, "hessian_diagonal": {"samples": 16}}.get(
        name, {}
    )
    e = take(obj, {"measure": name, **options, **own})
    assert e.value == pytest.approx(take(view, {"measure": name, **own}).value, rel=1e-9)
    assert {"params", "preconditioner", "normalise_logits"} <= set(e.protocol)
    if name == "directional_sharpness":
        hessian = torch.stack([view.hvp(row) for row in torch.eye(view.size, dtype=view.dtype)])
        g = view.gradient()
        assert e.value == pytest.approx(float(g @ hessian @ g / (g @ g)), rel=1e-9)


def test_the_density_of_a_block_is_that_of_its_view() -> None:
    obj = TANH.objective()
    view, _ = view_of(obj, params="2.*", normalise_logits=True)
    a = spectral_density(obj, probes=3, steps=8, params="2.*", normalise_logits=True)
    b = spectral_density(view, probes=3, steps=8)
    assert a.nodes.tolist() == b.nodes.tolist()
    assert a.protocol["params"] == "2.*"
