"""The engine: the same function elsewhere, and nothing of the measuring state left between results."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from problems import PROBLEMS, _batch_norm, data
from sharpscope import InputError, Objective


def test_between_results_and_after_an_early_end_the_model_and_the_process_are_as_found() -> None:
    torch.manual_seed(0)
    model, loss, batches = _batch_norm(0.5)
    model.train()
    obj = Objective(model, loss, batches)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    parameters = list(model.parameters())

    def outputs(batch: Any, weights: Tensor | None) -> bool:
        return model.training

    results = obj.evaluator.each_chunk(outputs, obj.evaluator.leaves())
    for graphs in (results, obj.evaluator.hessian_graphs(obj.evaluator.leaves())):
        next(graphs)  # and no further; the generator is held
        assert all(module.training for module in model.modules())
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.rand(1) == expected
    del results


def test_chunks_go_on_where_they_were_left() -> None:
    obj = Objective(nn.Linear(4, 3).double(), F.cross_entropy, data(19, 4), chunk_size=4)
    evaluator = obj.evaluator
    sizes = [(index, len(chunk[1])) for index, chunk, _ in evaluator.chunks(skip=3)]
    assert sizes == [(3, 4), (4, 3)]
    assert evaluator.smaller_chunks() == 2
    assert sum(1 for _ in evaluator.chunks()) == 10
    assert (evaluator.smaller_chunks(), evaluator.smaller_chunks()) == (1, None)


def test_another_point_other_data_and_a_copy_in_another_precision() -> None:
    obj = PROBLEMS[2].objective()
    point = obj.flat() + 0.3
    there = obj.at(point)
    assert there.loss() == obj.loss(point) != obj.loss()
    torch.testing.assert_close(there.hvp(point), obj.hvp(point, at=point))
    assert torch.equal(there.flat(), point)
    point += 1  # it was copied
    assert there.loss() == pytest.approx(obj.loss(point - 1), rel=1e-12)
    assert there.fingerprint != obj.fingerprint
    single = there.with_copy(torch.float32)
    assert single.dtype == torch.float32
    assert single.loss() == pytest.approx(there.loss(), rel=1e-6)
    assert single.evaluator.centre is None
    assert obj.model[0].weight.dtype == torch.float64
    x, y = data(7, 4, seed=5)
    other = there.with_data((x, y))
    with torch.no_grad():
        assert other.loss() == pytest.approx(
            single.with_copy(torch.float64).with_data((x, y)).loss(), rel=1e-6
        )
    assert (other.n_samples, obj.n_samples) == (7, 19)
    for one in (there, other):
        assert one.cost is not obj.cost
    with pytest.raises(InputError, match="shape"):
        obj.at(point[1:])


def test_placed_batches_have_the_precision_of_the_measurement_and_keep_their_integers() -> None:
    x, y = data(3, 4)
    obj = Objective(nn.Linear(4, 3), F.cross_entropy, (x, y))
    placed = obj.evaluator.placed({"x": x, "y": [y]})
    assert placed["x"].dtype == torch.float32
    assert placed["y"][0].dtype == torch.int64
