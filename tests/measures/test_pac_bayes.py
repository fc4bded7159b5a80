from __future__ import annotations

import math

import pytest
import torch

from oracles.dense import dense
from oracles.quadratic import quadratic
from oracles.trust_region import separable_linf_maximum
from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures import (
    pac_bayes_sigma,
    pac_bayes_sigma_magnitude,
    sharpness_radius,
    sharpness_radius_magnitude,
)

QUADRATIC = next(p for p in PROBLEMS if p.name.startswith("quadratic"))


@pytest.mark.parametrize(
    ("function", "magnitude"), [(pac_bayes_sigma, False), (pac_bayes_sigma_magnitude, True)]
)
def test_the_tolerated_noise_of_a_quadratic_is_known(function, magnitude: bool) -> None:
    """E L rises by σ² Σ c² H / 2, so 1/σ² is that sum over twice the deviation."""
    obj = QUADRATIC.objective()
    scale = obj.flat().abs() if magnitude else torch.ones(obj.size).double()
    exact = float((scale**2 * dense(obj)[2].diagonal()).sum()) / (2 * 0.2)
    e = function(obj, 0.2, samples=2000, rtol=1e-3)
    assert abs(e.value - exact) < 4.5 * e.stderr
    assert e.stderr < 0.1 * exact
    assert e.converged


@pytest.mark.slow
def test_the_interval_covers_the_known_value() -> None:
    obj = QUADRATIC.objective()
    exact = float(dense(obj)[2].trace()) / 0.2
    inside = 0
    for seed in range(60):
        low, high = pac_bayes_sigma(obj, samples=40, seed=seed).interval(0.95)
        inside += low <= exact <= high
    assert inside >= 52


@pytest.mark.parametrize(
    ("function", "magnitude"), [(sharpness_radius, False), (sharpness_radius_magnitude, True)]
)
def test_the_tolerated_worst_case_of_a_separable_quadratic_is_known(function, magnitude: bool) -> None:
    diagonal = torch.tensor([3.0, 0.5, 1.0], dtype=torch.float64)
    gradient = torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64)
    centre = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    obj = quadratic(diagonal.diag(), gradient, centre)
    scale = centre.abs() if magnitude else torch.ones(3, dtype=torch.float64)
    e = function(obj, 0.1, steps=30, rtol=1e-4)
    radius = e.value**-0.5
    assert separable_linf_maximum(gradient, diagonal, scale, radius) == pytest.approx(0.1, rel=1e-3)
    assert e.error < 1e-3 * e.value


def test_a_loss_that_never_rises_tolerates_everything() -> None:
    obj = quadratic(-torch.eye(2).double(), torch.zeros(2).double(), torch.ones(2).double())
    for function in (pac_bayes_sigma, sharpness_radius):
        e = function(obj)
        assert (e.value, e.converged) == (0.0, False)


@pytest.mark.parametrize("arguments", [{"deviation": 0.0}, {"rtol": math.inf}])
def test_bad_arguments(arguments: dict) -> None:
    for function in (pac_bayes_sigma, sharpness_radius):
        with pytest.raises(InputError):
            function(QUADRATIC.objective(), **arguments)
