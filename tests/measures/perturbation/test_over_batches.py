from __future__ import annotations

import statistics

import pytest
import torch

from problems import PROBLEMS
from sharpscope import InputError
from sharpscope.measures.perturbation.over_batches import over_batches
from sharpscope.seeding import generator

MLP = next(p for p in PROBLEMS if p.name == "mlp relu")


def losses(parts):
    for part in parts:
        yield part.loss()


def test_the_mean_standard_error_and_cost_over_the_batches_of_a_seed() -> None:
    obj = MLP.objective()
    e = over_batches("x", obj, losses, 4, 6, 3, {"radius": 1.0})
    own = []
    for i in range(6):
        order = torch.randperm(19, generator=generator("worst_case", 3, i))
        own.append(obj.subset(order[:4]).loss())
    assert e.value == pytest.approx(statistics.mean(own), rel=1e-12)
    assert e.stderr == pytest.approx(statistics.stdev(own) / 6**0.5, rel=1e-9)
    assert e.samples == 6
    assert e.cost["losses"] == pytest.approx(6 * 4 / 19)
    assert {"radius": 1.0, "batch_size": 4, "restarts": 6, "seed": 3}.items() <= e.protocol.items()


@pytest.mark.parametrize("batch_size", [None, 19])
def test_all_the_data_is_one_exact_value(batch_size: int | None) -> None:
    obj = MLP.objective()
    e = over_batches("x", obj, losses, batch_size, 50, 0, {})
    assert (e.value, e.stderr, e.protocol["restarts"]) == (obj.loss(), None, 1)
    assert e.cost["losses"] == 1


@pytest.mark.parametrize(("batch_size", "restarts"), [(0, 5), (20, 5), (4, 1)])
def test_sizes_out_of_range_are_refused(batch_size: int, restarts: int) -> None:
    with pytest.raises(InputError):
        over_batches("x", MLP.objective(), losses, batch_size, restarts, 0, {})


def test_a_loss_that_overflows_is_no_converged_value() -> None:
    def overflowing(parts):
        for _ in parts:
            yield float("inf")

    assert not over_batches("x", MLP.objective(), overflowing, None, 1, 0, {}).converged
    assert not over_batches("x", MLP.objective(), overflowing, 3, 4, 0, {}).converged
