"""What several ranks measure together is what one process measures."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ranks import run
from sharpscope import Objective, top_eigenvalues
from sharpscope.curvature import frobenius_norm, spectral_density, trace
from sharpscope.errors import InputError, RanksError
from sharpscope.measures.average_direction import average_direction_sharpness
from sharpscope.measures.worst_case import worst_case_sharpness

TOLERANCE = {"float64": 1e-9, "float32": 1e-6}
CASES = [(name, dtype) for name in ("perceptron", "convolutional", "transformer") for dtype in TOLERANCE]
EVERY_CASE = "SHARPSCOPE_FOUR_RANKS" in os.environ
"""Whether to measure everything of every problem, and on four ranks: minutes, as before a release."""

FOUR = [case for case in CASES if EVERY_CASE or case == ("perceptron", "float64")]
"""What four ranks measure, four processes on a machine of two cores."""


pytestmark = pytest.mark.slow


class Transformer(nn.Module):
    """Two blocks of attention and a perceptron over learned embeddings; the mean of the tokens is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(11, 8), nn.Parameter(torch.randn(6, 8) / 4)
        self.query, self.key, self.value, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.before, self.after = nn.LayerNorm(8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embedding(tokens) + self.place
        n = self.before(h)
        # the heads are counted from what the layers give, which is less on each rank of a tensor-parallel model
        q, k, v = (
            layer(n).unflatten(-1, (-1, 2)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        h = h + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        h = h + self.down(F.gelu(self.up(self.after(h))))
        return self.head(h.mean(1))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3))


def convolutional() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    with torch.no_grad():
        model(2 * torch.randn(40, 1, 6, 6) + 0.3)  # running statistics that differ from any batch's
    return model


MODELS = {"perceptron": perceptron, "convolutional": convolutional, "transformer": Transformer}


@functools.cache
def problem(name: str, dtype: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a model that has learned something, its inputs and targets; the same in every process."""
    torch.manual_seed(0)
    model = MODELS[name]()
    shape = {"perceptron": (48, 5), "convolutional": (48, 1, 6, 6), "transformer": (48, 6)}[name]
    x = torch.randint(0, 11, shape) if name == "transformer" else torch.randn(shape)
    y = torch.randint(0, 3, (len(x),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    model.eval()
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    precision = getattr(torch, dtype)
    return model.to(precision), x if name == "transformer" else x.to(precision), y


def part(data: Tensor, shares: list[float], rank: int) -> Tensor:
    ends = [round(sum(shares[: i + 1]) * len(data)) for i in range(len(shares))]
    return data[ends[rank] - round(shares[rank] * len(data)) : ends[rank]]


def measured(obj: Objective, everything: bool = True) -> dict[str, list[float]]:
    """Return numbers that must not depend on how many processes measure, ``everything`` or what takes little."""
    loss, gradient = obj.loss_and_gradient()
    found = {
        "top": top_eigenvalues(obj, tol=1e-2).values.tolist(),
        "trace": [trace(obj, samples=4, matrix="ggn").value],
        "frobenius norm": [frobenius_norm(obj, samples=2).value],
        "worst case": [worst_case_sharpness(obj, 0.05, "l2", False, batch_size=None, steps=2).value],
        "loss": [loss, obj.loss(), obj.subset(torch.tensor([40, 3, 3, 17])).loss()],
        "gradient": [float(gradient.double().square().sum()), float(gradient.double().abs().max())],
        "samples": [obj.n_samples],
    }
    if everything or EVERY_CASE:
        density = spectral_density(obj, probes=2, steps=3)
        found |= {
            "three at both ends": top_eigenvalues(obj, k=3, which="both", tol=1e-2).values.tolist(),
            "deflated trace": [trace(obj, samples=4, deflate=1).value],
            "density": [density.moment(power)[0] for power in (1, 2, 3)],
            "average direction": [average_direction_sharpness(obj, radius=1.0, samples=4).value],
            "worst case of batches": [
                worst_case_sharpness(obj, 0.05, batch_size=16, restarts=2, steps=2).value
            ],
        }
    return found


@functools.cache
def alone(name: str, dtype: str) -> dict[str, list[float]]:
    model, x, y = problem(name, dtype)
    return measured(Objective(model, F.cross_entropy, (x, y)))


def assert_equal(found: dict[str, list[float]], name: str, dtype: str) -> None:
    whole = alone(name, dtype)
    assert found.keys() <= whole.keys()
    for what in found:
        values = whole[what]
        # what is a difference of losses is as exact as the losses
        scale = max(
            np.abs(values).max(), 1.0 if what.startswith(("average direction", "worst case")) else 0.0
        )
        off = np.abs(np.array(found[what]) - values).max() / scale
        assert off <= TOLERANCE[dtype], (name, dtype, what, off, found[what], values)


# -- data parallel ----------------------------------------------------------------------------------


def data_parallel(rank: int, cases: list[list[str]], parts: dict[str, list[float]]) -> dict[str, Any]:
    """Measure problems with each rank's part of the data."""
    found: dict[str, Any] = {"fingerprints": []}
    for name, dtype in cases:
        model, x, y = problem(name, dtype)
        x, y = part(x, parts[name], rank), part(y, parts[name], rank)
        batches = [(x, y)] if len(x) else []
        obj = Objective(model, F.cross_entropy, batches, group=dist.group.WORLD)
        found[f"{name} {dtype}"] = measured(obj, dist.get_world_size() == 2 and dtype == "float64")
        found["fingerprints"].append(obj.fingerprint)
    return found


def two_ranks(rank: int, folder: str) -> dict[str, Any]:
    parts = {"perceptron": [0.7, 0.3], "convolutional": [1.0, 0.0], "transformer": [0.25, 0.75]}
    found = data_parallel(rank, CASES, parts)
    model, x, y = problem("perceptron", "float64")
    obj = Objective(model, F.cross_entropy, (x[rank::2], y[rank::2]), group=dist.group.WORLD)
    found["protocol"] = obj.protocol["ranks"]
    found["alone"] = Objective(model, F.cross_entropy, (x, y)).protocol["ranks"]
    found["collectives"] = collectives_of(
        lambda: obj.hvp(torch.ones(obj.size, dtype=torch.float64)), obj.size
    )
    found["block"] = collectives_of(lambda: obj.hvp(torch.ones(3, obj.size, dtype=torch.float64)), obj.size)
    found["errors"] = errors(rank, model, x, y)
    found["fast"] = fast(rank)
    found["whole batches"] = whole_batches(dist.group.WORLD, [0, 1] if rank == 0 else [2])
    trained = Objective(
        model, F.cross_entropy, (x[: 9 + rank], y[: 9 + rank]), "train", group=dist.group.WORLD
    )
    found["fingerprint in train mode"] = trained.fingerprint
    found["memory"] = memory_runs_out(rank, model, x, y)
    return end_with(found, obj, folder)


def memory_runs_out(rank: int, model: nn.Module, x: Tensor, y: Tensor) -> list[Any]:
    """Run out of memory on rank 1 with more than 8 samples: all ranks go on with smaller chunks."""
    armed: list[int] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if armed and rank == 1 and len(outputs) > 8:
            raise torch.OutOfMemoryError("out of memory")
        return F.cross_entropy(outputs, targets)

    obj = Objective(model, loss, (x[rank::2], y[rank::2]), group=dist.group.WORLD, chunk_size=32)
    armed.append(1)
    with pytest.warns(ResourceWarning, match="out of memory"):
        value = obj.loss()
    return [value, obj.evaluator.chunk_size]


def whole_batches(group: Any, own: list[int]) -> list[float]:
    """Measure with dropout and statistics of batches, three of uneven sizes, which a loss of its own weighs."""
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 3)
    ).double()
    return of_batches(model, group, own)


def of_batches(model: nn.Module, group: Any, own: list[int]) -> list[float]:
    _, x, y = problem("perceptron", "float64")
    batches = list(zip(x.split((9, 22, 17)), y.split((9, 22, 17)), strict=True))

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, float]:
        return F.cross_entropy(model(batch[0]), batch[1]), len(batch[1])

    options: dict[str, Any] = {"mode": "train", "dropout": True, "group": group}
    obj = Objective.from_batch_loss(model, [batches[i] for i in own], loss, **options)
    value, gradient = obj.loss_and_gradient()
    image = obj.hvp(obj.layout.normal(torch.Generator().manual_seed(0)))
    return [value, float(gradient.norm()), float(gradient @ image), float(image.norm()), obj.n_samples]


def collectives_of(call: Any, size: int) -> list[int]:
    """Return how many collectives of at least ``size`` numbers a call makes, and how many smaller ones."""
    counts = [0, 0]

    def counted(collective: Any) -> Any:
        def counting(*arguments: Any, **options: Any) -> Any:
            tensor = next(a for a in arguments[::-1] if isinstance(a, Tensor))
            counts[0 if tensor.numel() >= size else 1] += 1
            return collective(*arguments, **options)

        return counting

    call()  # products are checked before the first
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "all_reduce",
            "all_gather",
            "all_gather_into_tensor",
            "reduce_scatter_tensor",
            "broadcast",
        ):
            patch.setattr(dist, name, counted(getattr(dist, name)))
        call()
    return counts


def errors(rank: int, model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """Return what each of some mistakes says, on every rank."""

    def another_model() -> None:
        other = perceptron().double()
        nn.init.constant_(other[0].weight, float(rank))
        Objective(other, F.cross_entropy, (x, y), group=dist.group.WORLD)

    def no_data() -> None:
        Objective(model, F.cross_entropy, [], group=dist.group.WORLD)

    def one_rank_fails() -> None:
        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            if rank == 1 and armed:
                raise ValueError("broken on rank 1")
            return F.cross_entropy(outputs, targets)

        armed: list[int] = []
        obj = Objective(model, loss, (x, y), group=dist.group.WORLD)
        armed.append(1)
        obj.loss()

    def a_sum_on_one_rank() -> None:
        reduction = "sum" if rank else "mean"
        Objective(
            model, lambda o, t: F.cross_entropy(o, t, reduction=reduction), (x, y), group=dist.group.WORLD
        )

    def single_samples() -> None:
        Objective(model, F.cross_entropy, (x, y), group=dist.group.WORLD).evaluator.tensors()

    said = []
    for mistake in (another_model, no_data, one_rank_fails, a_sum_on_one_rank, single_samples):
        with pytest.raises((InputError, RanksError, ValueError)) as caught:
            mistake()
        said.append(str(caught.value))
    return said


def many() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(3)
    x = torch.randn(4000, 5)
    return problem("perceptron", "float32")[0], x, (x[:, 0] > 0).long()


def fast(rank: int) -> list[Any]:
    """Search by a subset drawn by importance, and under a deadline that has passed on one rank alone."""
    model, x, y = many()
    first, end = (0, 1500) if rank == 0 else (1500, 4000)
    obj = Objective(model, F.cross_entropy, (x[first:end], y[first:end]), group=dist.group.WORLD)
    found = top_eigenvalues(obj, mode="fast")
    short = top_eigenvalues(obj, tol=1e-6, deadline=0.5 if rank else 1e9, progress=False)
    return [found.value, found.protocol["algorithm"], found.products, short.products]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("data_parallel")
    return run(2, two_ranks, folder, str(folder))


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_two_ranks_with_uneven_parts_measure_what_one_process_does(two, name: str, dtype: str):
    for rank in two:
        assert_equal(rank[f"{name} {dtype}"], name, dtype)


def test_every_rank_gives_the_same_bits(two):
    for key in two[1]:
        if key not in ("errors", "alone", "lost"):
            assert two[0][key] == two[1][key], key


def test_a_product_takes_one_collective_of_the_vector(two):
    assert two[0]["collectives"] == [
        1,
        1,
    ]  # the small one says how many samples there are and that all is well
    assert two[0]["block"] == [1, 1]


def test_the_protocol_says_whose_data_it_is(two):
    assert two[0]["protocol"] == "the data of all 2 ranks"
    assert [rank["alone"] for rank in two] == [f"this process's data alone, rank {i} of 2" for i in range(2)]


def test_a_mistake_on_one_rank_is_told_on_all(two):
    first, second = (rank["errors"] for rank in two)
    assert "all ranks must have the same model" in first[0]
    assert first[0] == second[0]
    assert "some rank must hold data" in first[1]
    assert first[1] == second[1]
    assert "rank 1 of 2 has failed" in first[2]
    assert second[2] == "broken on rank 1"
    assert "rank 1 of 2 has failed" in first[3]
    assert "loss must be the mean" in second[3]
    assert "needs all the data in one process" in first[4]
    assert first[4] == second[4]


def test_the_fast_search_draws_the_same_samples_as_one_process(two):
    model, x, y = many()
    found = top_eigenvalues(Objective(model, F.cross_entropy, (x, y)), mode="fast")
    value, algorithm, products, _ = two[0]["fast"]
    assert algorithm == found.protocol["algorithm"]
    assert algorithm.startswith("davidson")
    assert value == pytest.approx(found.value, rel=1e-6)
    assert products == pytest.approx(found.products)


def test_whole_batches_keep_their_weights_statistics_and_masks(two):
    assert two[0]["whole batches"] == pytest.approx(whole_batches(None, [0, 1, 2]), rel=1e-12)


def test_all_ranks_go_on_with_smaller_chunks_where_memory_runs_out_on_one(two):
    value, chunk_size = two[0]["memory"]
    assert value == pytest.approx(alone("perceptron", "float64")["loss"][0], rel=1e-12)
    assert chunk_size == 8


def test_four_ranks_measure_what_one_process_does(tmp_path: Path):
    parts = {
        "perceptron": [0.5, 0.0, 0.375, 0.125],
        "convolutional": [0.25] * 4,
        "transformer": [0, 0, 0, 1.0],
    }
    ranks = run(4, data_parallel, tmp_path, FOUR, parts)
    for name, dtype in FOUR:
        assert_equal(ranks[3][f"{name} {dtype}"], name, dtype)
    assert all(rank == ranks[0] for rank in ranks)


# -- a rank that dies -------------------------------------------------------------------------------


def end_with(found: dict[str, Any], obj: Objective, folder: str) -> dict[str, Any]:
    """End rank 1 without a word while rank 0 measures; rank 0 must hear of it, and says what it heard."""
    obj.loss()
    if dist.get_rank() == 1:
        (Path(folder) / "1.json").write_text(json.dumps(found))
        os._exit(0)
    try:
        while True:
            obj.hvp(torch.ones(obj.size))
    except RanksError as error:
        return {**found, "lost": str(error)}


def test_a_rank_that_dies_ends_all_with_one_sentence(two):
    assert (
        "all 2 ranks must stay alive while they measure together, rank 0 lost another one" in two[0]["lost"]
    )


def test_a_group_needs_an_initialised_world():
    model, x, y = problem("perceptron", "float32")
    with pytest.raises(InputError, match="not initialised"):
        Objective(model, F.cross_entropy, (x, y), group="world")
