"""hammoud2023's two protocols; the coded one against literal twins of what each notebook does, slips included."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from problems import PROBLEMS, data
from sharpscope import InputError, Objective, worst_case_sharpness
from sharpscope.autograd.module_state import preserved_random_state
from sharpscope.measures import hammoud2023_sharpness
from sharpscope.seeding import generator, seed_of


def regression(n: int = 150) -> Objective:
    torch.manual_seed(3)
    x, _ = data(n, 4)
    model = nn.Sequential(nn.Linear(4, 6), nn.ELU(), nn.Linear(6, 1), nn.ELU()).double()
    return Objective(model, F.mse_loss, (x, x[:, :1] * 2 + 1))


def classification(*layers: nn.Module, n: int = 140) -> Objective:
    torch.manual_seed(4)
    return Objective(nn.Sequential(*layers).double(), F.cross_entropy, data(n, 4))


def dropping() -> Objective:
    torch.manual_seed(5)
    return classification(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def attending() -> Objective:
    torch.manual_seed(5)
    return classification(nn.Dropout(0.6), nn.Linear(4, 8), nn.ELU(), nn.Dropout(0.6), nn.Linear(8, 3))


def sgd(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=rate)


def test_as_written_is_the_papers_worst_case() -> None:
    obj = dropping()
    e = hammoud2023_sharpness(obj, "lenet", seed=2)
    same = worst_case_sharpness(obj, 1e-4, "linf", True, 64, 50, 5, 0.05, 2, direction="gradient")
    assert e.value == same.value
    assert e.samples == 50
    assert (e.protocol["model"], e.protocol["protocol"]) == ("lenet", "as_written")


def test_fcnn_as_coded_is_its_notebook() -> None:
    obj, rho, rate = regression(), 0.025, 0.102
    x, y = next(iter(obj.evaluator.batches))
    network = copy.deepcopy(obj.model)
    optimizer = sgd(network, rate)
    around = [p.detach().clone() for p in network.parameters()]
    highest, kept = 0.0, None
    for _ in range(6):
        total = 0.0
        for _ in range(3):  # batches of 64 among 150, each step on all of them
            optimizer.zero_grad()
            (-F.mse_loss(network(x), y)).backward()
            optimizer.step()
            with torch.no_grad():
                for p, w in zip(network.parameters(), around, strict=True):
                    p.data = torch.clamp(p.data, -w * rho + w, w * rho + w)
                total += float(F.mse_loss(network(x), y))
        if total > highest:
            highest, kept = total, copy.deepcopy(network)
    literal = (F.mse_loss(kept(x), y) - F.mse_loss(obj.model(x), y)).item()
    found = hammoud2023_sharpness(obj, "fcnn", "as_coded")
    assert found.value == pytest.approx(literal, rel=1e-9)
    # departures: full training set and six epochs of a step per batch; no draws, so nothing to average or seed
    assert found.cost["gradients"] == 1 + 6 * 3
    assert found.samples is None
    assert hammoud2023_sharpness(obj, "fcnn", "as_coded", seed=9).value == found.value
    assert found.protocol["step_size"] == 0.102
    # departure: without absolute values, a negative weight always ends at w + ρw, whatever the gradient says
    for p, w in zip(kept.parameters(), around, strict=True):
        torch.testing.assert_close(p[w < 0], (w * (1 + rho))[w < 0])
        assert bool((w < 0).any())
    absolute = worst_case_sharpness(
        obj, rho, adaptive=True, batch_size=None, steps=18, step_size=rate, direction="gradient"
    )
    assert abs(found.value / absolute.value - 1) > 0.02


def lenet_literally(obj: Objective, rho: float, rate: float, seed: int, alias: bool = True) -> float:
    x, y = next(iter(obj.evaluator.batches))
    model = copy.deepcopy(obj.model)

    def evaluate() -> float:
        model.eval()
        with torch.no_grad():
            return float(F.cross_entropy(model(x), y))

    with preserved_random_state():
        torch.manual_seed(seed_of("hammoud2023", "lenet", seed))
        original, best = evaluate(), -1e9
        optimizer = sgd(model, rate)
        clone_w = [p.detach() if alias else p.detach().clone() for p in model.parameters()]
        for epoch in range(5):
            model.train()
            order = torch.randperm(len(y), generator=generator("hammoud2023", "lenet", seed, epoch))
            for chosen in order.split(64):
                optimizer.zero_grad()
                (-F.cross_entropy(model(x[chosen]), y[chosen])).backward()
                optimizer.step()
                with torch.no_grad():
                    for p, w in zip(model.parameters(), clone_w, strict=True):
                        p.data = torch.clamp(p.data, w - rho * abs(w), w + rho * abs(w))
            best = max(best, evaluate())
    return best - original


def test_lenet_as_coded_is_its_notebook() -> None:
    obj = dropping()
    found = hammoud2023_sharpness(obj, "lenet", "as_coded", seed=1)
    assert found.value == pytest.approx(lenet_literally(obj, 1e-4, 0.05, 1), rel=1e-9)
    # departure: with the centre copied, as meant, the first step would be projected: a far smaller value
    copied = lenet_literally(obj, 1e-4, 0.05, 1, alias=False)
    assert abs(found.value - copied) > 1e-3
    # departure: train mode. Dropout masks and moved statistics leave a trace that the seed shows
    assert hammoud2023_sharpness(obj, "lenet", "as_coded", seed=2).value != found.value
    # departure: one ascent over epochs of all batches, not fifty batches
    assert found.samples is None
    assert found.cost["gradients"] == 5


def test_lenet_as_coded_evaluates_with_the_moved_statistics() -> None:
    """Batch normalisation alone: no dropout, a rate too small to move a weight; what is left is the statistics."""
    obj = classification(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    moved = hammoud2023_sharpness(obj, "lenet", "as_coded", radius=1e-12, step_size=1e-12).value
    assert abs(moved) > 1e-4
    plain = classification(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    assert abs(hammoud2023_sharpness(plain, "lenet", "as_coded", radius=1e-12, step_size=1e-12).value) < 1e-9


def test_gat_as_coded_is_its_notebook() -> None:
    obj, rho, rate, seed = attending(), 0.02, 0.236, 6
    x, y = next(iter(obj.evaluator.batches))
    passes = 0

    def summed(model: nn.Module) -> float:
        nonlocal passes
        order = torch.randperm(140, generator=generator("hammoud2023", "gat", seed, "pass", passes))
        passes += 1
        with torch.no_grad():
            return sum(float(F.cross_entropy(model(x[i]), y[i])) for i in order.split(64))

    with preserved_random_state():
        torch.manual_seed(seed_of("hammoud2023", "gat", seed))
        fixed = copy.deepcopy(obj.model).train()
        fixed_w = [p.detach().clone() for p in fixed.parameters()]
        start, averaged = summed(fixed), 0.0
        for trial in range(5):
            model = copy.deepcopy(obj.model).train()
            optimizer = sgd(model, rate)
            sample = torch.randint(
                140, (64,), generator=generator("hammoud2023", "gat", seed, "nodes", trial)
            )
            mask = torch.zeros(140, dtype=torch.bool)
            mask[sample] = True
            assert int(mask.sum()) < 64  # drawn with replacement
            highest = 0.0
            for _ in range(5):
                optimizer.zero_grad()
                (-F.cross_entropy(model(x[mask]), y[mask])).backward()
                optimizer.step()
                with torch.no_grad():
                    for p, w in zip(model.parameters(), fixed_w, strict=True):
                        p.data = torch.clamp(p.data, w - rho * abs(w), w + rho * abs(w))
                highest = max(highest, summed(model))
            averaged += highest / 5
    found = hammoud2023_sharpness(obj, "gat", "as_coded", seed=seed)
    assert found.value == pytest.approx(averaged - start, rel=1e-9)
    assert found.samples == 5  # departure: five trials


def test_gat_as_coded_measures_noise_and_sums() -> None:
    """Departures: dropout stays on, so a ball of no size has a sharpness; losses are summed over three batches."""
    noisy = hammoud2023_sharpness(attending(), "gat", "as_coded", radius=1e-12).value
    assert abs(noisy) > 1e-4  # the highest of five noisy sums, less another one
    still = classification(nn.Linear(4, 8), nn.ELU(), nn.Linear(8, 3), n=128)  # two even batches: sums agree
    assert hammoud2023_sharpness(still, "gat", "as_coded", radius=1e-12).value == pytest.approx(0, abs=1e-9)
    # a loss that is the same on every batch and linear: five steps of rate · gradient², and three batches to sum
    x = torch.ones(140, 1, dtype=torch.float64)
    linear = Objective(nn.Linear(1, 1, bias=False).double(), lambda o, t: o.mean(), (x, x))
    found = hammoud2023_sharpness(linear, "gat", "as_coded", radius=1e3, step_size=1e-3).value
    assert found == pytest.approx(3 * 5e-3, rel=1e-9)


@pytest.mark.parametrize("model", ["fcnn", "lenet", "gat"])
@pytest.mark.parametrize("protocol", ["as_written", "as_coded"])
def test_repeats_to_the_bit(model: Any, protocol: Any) -> None:
    obj = dropping()
    torch.manual_seed(1)
    first = hammoud2023_sharpness(obj, model, protocol).value
    torch.manual_seed(2)
    assert hammoud2023_sharpness(obj, model, protocol).value == first


@pytest.mark.parametrize("model", ["fcnn", "lenet", "gat"])
@pytest.mark.parametrize("protocol", ["as_written", "as_coded"])
def test_a_moved_objective_is_measured_where_it_was_moved_to(model: Any, protocol: Any) -> None:
    obj = dropping()
    there = obj.at(obj.flat() * 1.3)
    moved = hammoud2023_sharpness(there, model, protocol).value
    assert moved != hammoud2023_sharpness(obj, model, protocol).value
    with torch.no_grad():
        for parameter in obj.model.parameters():
            parameter.copy_(parameter * 1.3)
    assert moved == hammoud2023_sharpness(obj, model, protocol).value


@pytest.mark.parametrize("arguments", [{"model": "mlp"}, {"protocol": "as_meant"}, {"radius": -1.0}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        hammoud2023_sharpness(regression(), **arguments)


def test_data_that_cannot_be_drawn_from_is_refused() -> None:
    obj = next(p for p in PROBLEMS if p.name == "dict batches").objective()
    with pytest.raises(InputError, match="from_batch_loss"):
        hammoud2023_sharpness(obj)
