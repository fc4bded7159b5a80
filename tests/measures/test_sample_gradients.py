from __future__ import annotations

from itertools import combinations

import pytest
import torch

from oracles.dense import dense
from problems import PROBLEMS
from sharpscope import InputError, NotConvergedWarning, Objective
from sharpscope.measures import (
    fisher_rao_norm,
    fisher_trace,
    gradient_covariance_trace,
    gradient_disparity,
    information_sharpness,
)
from sharpscope.measures.sample_gradients import sample_gradients

SEPARABLE = [p for p in PROBLEMS if p.mode == "eval" and not p.batch_loss and "without" not in p.name]
RELU = next(p for p in PROBLEMS if p.name == "mlp relu")


def each(obj: Objective) -> torch.Tensor:
    return torch.stack([dense(obj.subset(torch.tensor([i])))[1] for i in range(int(obj.n_samples))])


@pytest.mark.parametrize("problem", SEPARABLE, ids=lambda p: p.name)
def test_sample_gradients_are_those_of_dense_autograd(problem) -> None:
    obj = problem.objective()
    index = torch.tensor([3, 0, 5])
    found = torch.cat(list(sample_gradients(obj, index)))
    torch.testing.assert_close(found, each(obj)[index], rtol=1e-8, atol=1e-11)


def test_they_are_taken_at_the_point_measured_at() -> None:
    obj = RELU.objective()
    there = obj.at(obj.flat() * 1.2)
    whole = torch.cat(list(sample_gradients(there, torch.arange(19)))).mean(0)
    torch.testing.assert_close(whole, there.gradient())


def test_moments_over_all_samples_are_exact() -> None:
    obj = RELU.objective()
    g = each(obj)
    covariance = gradient_covariance_trace(obj, None)
    assert covariance.value == pytest.approx(float(torch.cov(g.T, correction=0).trace()), rel=1e-9)
    assert covariance.stderr is None
    assert covariance.cost["gradients"] == 2
    empirical = g.T @ g / len(g)
    assert fisher_trace(obj, "data").value == pytest.approx(float(empirical.trace()), rel=1e-9)
    theta = obj.flat()
    assert fisher_rao_norm(obj, "data").value == pytest.approx(float(theta @ empirical @ theta), rel=1e-9)


def fisher_matrix(obj: Objective) -> torch.Tensor:
    x, _ = obj.evaluator.tensors()
    p = obj.model(x).detach().softmax(1)
    fisher = torch.zeros(obj.size, obj.size).double()
    for i in range(len(x)):
        for k in range(3):
            g = dense(obj.with_data((x[i : i + 1], torch.tensor([k]))))[1]
            fisher += p[i, k] * torch.outer(g, g) / len(x)
    return fisher


def test_labels_of_the_model_give_the_fisher_matrix() -> None:
    obj = RELU.objective()
    fisher, theta = fisher_matrix(obj), obj.flat()
    assert fisher_rao_norm(obj).value == pytest.approx(float(theta @ fisher @ theta), rel=1e-8)
    e = fisher_trace(obj, samples=800)
    assert abs(e.value - float(fisher.trace())) < 4.5 * e.stderr


def test_information_sharpness_is_that_of_the_dense_matrices() -> None:
    obj = RELU.objective()
    g = each(obj)
    values, vectors = torch.linalg.eigh(fisher_matrix(obj))
    along = ((g @ vectors).square().mean(0) / values).flip(0)
    for k in (1, 4):
        e = information_sharpness(obj, k, tol=1e-8)
        assert e.value == pytest.approx(float(along[:k].sum()), rel=1e-5)
        assert e.protocol["directions"] == k
        assert e.converged


def test_information_sharpness_of_all_directions_depends_on_the_labels_probabilities_alone() -> None:
    """Four samples with three outputs and 15 parameters: F has rank 8, and a change of basis moves nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, model = torch.randn(4, 4).double(), torch.nn.Linear(4, 3).double()
        mixing = torch.randn(4, 4).double()
    y = torch.tensor([0, 2, 1, 0])
    p = model(x).detach().softmax(1)[torch.arange(4), y]
    obj = Objective(model, torch.nn.functional.cross_entropy, (x, y))
    expected = pytest.approx(float((1 / p - 1).sum()), rel=1e-6)
    assert information_sharpness(obj, 8, tol=1e-8).value == expected
    with pytest.warns(NotConvergedWarning, match="zero"):
        e = information_sharpness(obj, 15, tol=1e-8)
    assert (e.value, e.protocol["directions"]) == (expected, 8), "the rest of F is zero"
    model.weight.data = torch.linalg.solve(mixing.T, model.weight.data.T).T
    mixed = Objective(model, torch.nn.functional.cross_entropy, (x @ mixing.T, y))
    assert information_sharpness(mixed, 8, tol=1e-8).value == expected


def test_a_sample_of_the_data_has_an_interval_that_holds_the_whole() -> None:
    obj = RELU.objective()
    exact = gradient_covariance_trace(obj, None).value
    inside = 0
    for seed in range(200):
        low, high = gradient_covariance_trace(obj, 8, seed).interval(0.95)
        inside += low <= exact <= high
    assert inside >= 170  # skewed draws of 8: below the nominal 190


def test_disparity_is_the_mean_distance_of_disjoint_batches() -> None:
    obj = RELU.objective()
    e = gradient_disparity(obj, 4, 4, seed=1)
    from sharpscope.seeding import generator

    order = torch.randperm(19, generator=generator("gradient_disparity", 1))[:16].split(4)
    g = [dense(obj.subset(index))[1] for index in order]
    distances = [float((a - b).norm()) for a, b in combinations(g, 2)]
    assert e.value == pytest.approx(sum(distances) / 6, rel=1e-9)
    assert e.cost["gradients"] == pytest.approx(16 / 19)
    assert 0 < e.stderr < e.value


def test_what_is_refused() -> None:
    obj = RELU.objective()
    for arguments in ({"batches": 2}, {"batch_size": 10, "batches": 3}, {"batch_size": 0}):
        with pytest.raises(InputError):
            gradient_disparity(obj, **arguments)
    with pytest.raises(InputError, match="labels"):
        fisher_trace(obj, "true")
    with pytest.raises(InputError, match="do not interact"):
        gradient_covariance_trace(next(p for p in PROBLEMS if p.mode == "train").objective())
    with pytest.raises(InputError, match="from_batch_loss"):
        fisher_rao_norm(next(p for p in PROBLEMS if p.batch_loss).objective())
    with pytest.raises(InputError, match="standard error"):
        gradient_covariance_trace(obj, 1)
    with pytest.raises(InputError, match="k must be"):
        information_sharpness(obj, 0)
