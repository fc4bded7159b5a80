from __future__ import annotations

import math
import statistics

import pytest
import torch
from scipy.stats import t

from problems import PROBLEMS
from sharpscope.estimate import CostMeter, Estimate


def test_the_interval_of_draws_is_students() -> None:
    draws = [0.3, -1.0, 2.5, 0.7]
    e = Estimate.of_samples("m", draws, {}, {}, "f")
    half = t.ppf(0.95, 3) * statistics.stdev(draws) / 2
    assert e.interval(0.9) == pytest.approx((statistics.mean(draws) - half, statistics.mean(draws) + half))
    assert e.converged
    assert e.samples == 4


def test_an_interval_needs_two_draws_and_finite_ones() -> None:
    one = Estimate.of_samples("m", [1.0], {}, {}, "")
    assert all(map(math.isnan, one.interval()))
    infinite = Estimate.of_samples("m", [1.0, math.inf], {}, {}, "")
    assert math.isinf(infinite.value)
    assert not infinite.converged
    assert all(map(math.isnan, infinite.interval()))


def test_a_deterministic_interval_is_the_error_at_every_level() -> None:
    assert Estimate("m", 2.0, error=0.5).interval(0.5) == (1.5, 2.5)
    assert Estimate("m", 2.0).interval() == (2.0, 2.0)


def test_the_meter_counts_from_its_start_and_parts_by_their_share() -> None:
    obj = PROBLEMS[0].objective()
    obj.loss()
    meter = CostMeter(obj)
    obj.gradient()
    parts = [obj.subset(torch.tensor([0, i])) for i in (1, 2)]
    parts[0].loss()  # before it is included
    for part in parts:
        meter.include(part, 0.25)
        part.loss()
        part.loss()
    total = meter.total()
    assert (total["losses"], total["gradients"], total["products"]) == (1.0, 1.0, 0.0)
    assert 0 <= total["seconds"] <= meter.seconds
