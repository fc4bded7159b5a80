"""Models whose parameters are sharded measure what one process measures, with vectors sharded like them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from objective.sharded_problems import (
    Attention,
    Checkpointed,
    MostBytes,
    Recurrent,
    fully_sharded,
    tensor_parallel,
    wide,
)
from objective.test_distribution import (
    CASES,
    EVERY_CASE,
    FOUR,
    assert_equal,
    end_with,
    measured,
    of_batches,
    part,
    perceptron,
    problem,
)
from ranks import run
from sharpscope import Objective, top_eigenvalues
from sharpscope.autograd.sharded_vectors import ShardedVectors
from sharpscope.autograd.vectors import dot, norm, orthonormal_rows
from sharpscope.curvature.by_layer import shares_by_layer, trace_by_layer
from sharpscope.errors import InputError
from sharpscope.measures.weight_kurtosis import weight_kurtosis
from sharpscope.objective.importance_sampling import importance_scores

pytestmark = pytest.mark.slow

SHARDED = [case for case in CASES if EVERY_CASE or case[1] == "float64" or case[0] == "perceptron"]
"""What two ranks measure. A product of sharded parameters takes ten times as long as one of whole ones: everything is
measured of the perceptron alone, of the others what their layers decide."""

PARTS = {
    2: {"perceptron": [0.7, 0.3], "convolutional": [1.0, 0.0], "transformer": [0.25, 0.75]},
    4: {
        "perceptron": [0.5, 0.0, 0.375, 0.125],
        "convolutional": [0.25] * 4,
        "transformer": [0.0, 0.0, 0.0, 1.0],
    },
}


def sharded(rank: int, cases: list[list[str]]) -> dict[str, Any]:
    """Measure problems fully sharded."""
    found: dict[str, Any] = {"fingerprints": []}
    for name, dtype in cases:
        model, x, y = problem(name, dtype)
        parts = PARTS[dist.get_world_size()][name]
        x, y = part(x, parts, rank), part(y, parts, rank)
        obj = Objective(fully_sharded(copy.deepcopy(model)), F.cross_entropy, [(x, y)] if len(x) else [])
        found[f"{name} {dtype}"] = measured(obj, (name, dtype) == ("perceptron", "float64"))
        found["fingerprints"].append(obj.fingerprint)
    found["protocol"] = obj.protocol["ranks"]
    return found


def parallel(rank: int, cases: list[list[str]]) -> dict[str, Any]:
    """Measure problems tensor-parallel."""
    found: dict[str, Any] = {"fingerprints": []}
    for name, dtype in cases:
        model, x, y = problem(name, dtype)
        obj = Objective(tensor_parallel(copy.deepcopy(model), name), F.cross_entropy, (x, y))
        found[f"{name} {dtype}"] = measured(obj, (name, dtype) == ("perceptron", "float64"))
        found["fingerprints"].append(obj.fingerprint)
    found["protocol"] = obj.protocol["ranks"]
    return found


def two_fully_sharded(rank: int, folder: str) -> dict[str, Any]:
    found = sharded(rank, SHARDED)
    found["held"] = held()
    found["vectors"] = vectors(rank)
    found["architectures"] = [apart(build, fully_sharded) for build in (Checkpointed, Recurrent, Attention)]
    found["architectures"] += [apart(perceptron, fully_sharded, params="2.*")]
    found["left as found"] = left_as_found(rank)
    found["errors"] = errors(rank)
    found["whole batches"] = sharded_batches(rank)
    model, x, y = problem("perceptron", "float32")
    return end_with(found, Objective(fully_sharded(copy.deepcopy(model)), F.cross_entropy, (x, y)), folder)


def sharded_batches(rank: int) -> list[float]:
    model, own = with_statistics(), [0, 1] if rank == 0 else [2]
    return of_batches(fully_sharded(model), None, own)


def with_statistics() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 3)
    ).double()


def two_tensor_parallel(rank: int, folder: str) -> dict[str, Any]:
    found = parallel(rank, SHARDED)
    model, x, y = problem("perceptron", "float32")
    model = tensor_parallel(copy.deepcopy(model), "perceptron")
    found["architectures"] = tensor_parallel_architectures()
    found["other data"] = said(lambda: Objective(model, F.cross_entropy, (x + rank, y)))
    return end_with(found, Objective(model, F.cross_entropy, (x, y)), folder)


def tensor_parallel_architectures() -> list[float]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    def cut(**plan: Any) -> Callable[[nn.Module], nn.Module]:
        named = {name.replace("_", "."): style for name, style in plan.items()}
        return lambda model: parallelize_module(model, init_device_mesh("cpu", (2,)), named)

    def normalised() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 3))

    rows = ColwiseParallel(input_layouts=Shard(0), output_layouts=Replicate())
    sequence = {
        "0": ColwiseParallel(),
        "2": RowwiseParallel(output_layouts=Shard(0)),
        "3": SequenceParallel(sequence_dim=0),
        "4": rows,
    }
    return [
        apart(Checkpointed, cut(first_0=ColwiseParallel(), first_2=RowwiseParallel())),
        apart(normalised, cut(**sequence)),
        apart(normalised, cut(**{"0": ColwiseParallel(), "2": RowwiseParallel()}), params=["2.*", "3.*"]),
    ]


def apart(build: Callable[[], nn.Module], cut: Callable[[nn.Module], nn.Module], **options: Any) -> float:
    """Return how far a product, a gradient and a loss of a sharded model are from those of one process."""
    torch.manual_seed(2)
    model, (_, x, y) = build().double(), problem("perceptron", "float64")
    whole = Objective(model, F.cross_entropy, (x, y), **options)
    obj = Objective(cut(copy.deepcopy(model)), F.cross_entropy, (x, y), **options)
    v = whole.layout.normal(torch.Generator().manual_seed(1)).double()
    pairs = [(whole.hvp(v), gathered(obj.hvp(v))), (whole.gradient(), gathered(obj.gradient()))]
    return max([abs(whole.loss() - obj.loss()), *(float((a - b).norm() / a.norm()) for a, b in pairs)])


def said(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


# -- memory -----------------------------------------------------------------------------------------


def held() -> dict[str, float]:
    """Return the bytes of parameters, of a vector and of all that a search holds, alone and on this rank."""
    model, x, y = wide()
    rank, found = dist.get_rank(), {}
    parameters = sum(p.nbytes for p in model.parameters())
    for name in ("alone", "rank"):
        if name == "rank":
            model = fully_sharded(model)
            x, y = x.chunk(2)[rank], y.chunk(2)[rank]
            parameters = sum(p.to_local().nbytes for p in model.parameters())  # type: ignore[attr-defined]
        obj = Objective(model, F.cross_entropy, (x, y), check="none")
        with MostBytes() as bytes_held:
            vectors = top_eigenvalues(obj, tol=0.3).vectors
        found[name] = parameters + bytes_held.most
        found[f"{name}, parameters"] = parameters
        found[f"{name}, a vector"] = (
            vectors.own.nbytes if isinstance(vectors, ShardedVectors) else vectors.nbytes
        )
    return found


# -- what is the same, and what is refused ------------------------------------------------------------


def gathered(vectors: Tensor) -> Tensor:
    """Return whole vectors of sharded ones, which they must be."""
    assert isinstance(vectors, ShardedVectors)
    return vectors.whole()


def vectors(rank: int) -> list[Any]:
    """Compare sharded vectors with whole ones; return what differs."""
    model, x, y = problem("perceptron", "float64")
    whole = Objective(model, F.cross_entropy, (x, y))
    obj = Objective(fully_sharded(copy.deepcopy(model)), F.cross_entropy, (x[rank::2], y[rank::2]))
    draws = [torch.Generator().manual_seed(5) for _ in range(4)]
    a, v = whole.layout.normal(draws[0], torch.float64), obj.layout.normal(draws[1], torch.float64)
    b, w = whole.layout.normal(draws[2]).double(), obj.layout.normal(draws[3]).double()
    assert isinstance(v, ShardedVectors)
    rows, cut = torch.stack([a, b, a * b]), torch.stack([v, w, v * w])
    pairs: list[tuple[Any, Any]] = [
        (a, gathered(v)),
        (b, gathered(w)),
        (
            whole.layout.signs(torch.Generator().manual_seed(1)),
            gathered(obj.layout.signs(torch.Generator().manual_seed(1))),
        ),
        (whole.flat(), gathered(obj.flat())),
        (rows[[2, 0]], gathered(cut[torch.tensor([2, 0])])),
        (torch.ones(2, 3).double() @ rows, gathered(torch.ones(2, 3).double() @ cut)),
        (rows.reshape(3, 1, -1)[:, 0].sum(0), gathered(cut.reshape(3, 1, -1)[:, 0].sum(0))),
        (dot(rows, a), dot(cut, v)),
        (rows.norm(dim=1), cut.norm(dim=1)),
        (a.max() - b.min(), v.max() - w.min()),
        (a.abs().mean(), v.abs().mean()),
        (torch.tensor(norm(rows)), torch.tensor(norm(cut))),
        ((a > 0).sum(), (v > 0).sum()),
        (torch.isfinite(a / 0).any(), torch.isfinite(v / 0).any()),
        (torch.eye(3).double(), dot(orthonormal_rows(cut), orthonormal_rows(cut))),
        (whole.hvp(rows), gathered(obj.hvp(cut))),
        (whole.hvp(a), gathered(obj.hvp(a))),  # a whole vector is cut
        (torch.tensor(whole.loss(a)), torch.tensor(obj.loss(v))),
        (torch.tensor(whole.at(a).loss()), torch.tensor(obj.at(v).loss())),
    ]
    layers = [trace_by_layer(o, probes=2) for o in (whole, obj)]
    pairs += [(torch.tensor(layers[0].values), torch.tensor(layers[1].values))]
    shares = [torch.tensor(shares_by_layer(o, top_eigenvalues(o, tol=1e-6).vectors)) for o in (whole, obj)]
    scores, expected = importance_scores(obj), importance_scores(whole)
    assert scores is not None
    assert expected is not None
    order = torch.cat([torch.arange(len(x))[0::2], torch.arange(len(x))[1::2]])
    pairs += [(shares[0], shares[1]), (expected[order], scores)]
    different = [
        i
        for i, (x, y) in enumerate(pairs)
        if not torch.allclose(x.double(), y.double(), rtol=1e-12, atol=1e-12)
    ]
    return [different, v.numel(), list(cut.shape), v.own.numel() < a.numel()]


def left_as_found(rank: int) -> bool:
    """Train a step after measuring: torch's own hooks must still work."""
    model, x, y = problem("perceptron", "float32")
    twin, model = copy.deepcopy(model), fully_sharded(copy.deepcopy(model))
    Objective(model, F.cross_entropy, (x, y)).hvp(torch.ones(sum(p.numel() for p in twin.parameters())))
    F.cross_entropy(model(x), y).backward()
    F.cross_entropy(twin(x), y).backward()
    return all(
        torch.allclose(p.grad.full_tensor(), q.grad, atol=1e-6)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True)
    )


def errors(rank: int) -> list[str]:
    """Return what each of some mistakes says."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    model, x, y = problem("perceptron", "float32")
    obj = Objective(fully_sharded(copy.deepcopy(model)), F.cross_entropy, (x, y))
    flattened = FullyShardedDataParallel(copy.deepcopy(model), device_id=torch.device("cpu"))
    grid = fully_shard(copy.deepcopy(model), mesh=init_device_mesh("cpu", (1, 2), mesh_dim_names=("a", "b")))
    return [
        said(lambda: Objective(flattened, F.cross_entropy, (x, y))),
        said(lambda: Objective(grid, F.cross_entropy, (x, y))),
        said(lambda: obj.with_copy(torch.float64)),
        said(lambda: obj.flat().cumsum(0)),
        said(lambda: obj.flat() + torch.ones(obj.size)),
        said(lambda: weight_kurtosis(obj)),
    ]


@pytest.fixture(scope="module")
def two_sharded(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("fully_sharded")
    return run(2, two_fully_sharded, folder, str(folder))


@pytest.fixture(scope="module")
def two_parallel(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("tensor_parallel")
    return run(2, two_tensor_parallel, folder, str(folder))


@pytest.mark.parametrize(("name", "dtype"), SHARDED)
def test_fully_sharded_models_measure_what_one_process_does(two_sharded, name: str, dtype: str):
    assert_equal(two_sharded[0][f"{name} {dtype}"], name, dtype)
    assert two_sharded[0][f"{name} {dtype}"] == two_sharded[1][f"{name} {dtype}"]


@pytest.mark.parametrize(("name", "dtype"), SHARDED)
def test_tensor_parallel_models_measure_what_one_process_does(two_parallel, name: str, dtype: str):
    assert_equal(two_parallel[0][f"{name} {dtype}"], name, dtype)
    assert two_parallel[0][f"{name} {dtype}"] == two_parallel[1][f"{name} {dtype}"]


def test_a_rank_holds_at_most_60_percent_of_parameters_and_vectors(two_sharded):
    for rank in two_sharded:
        held = rank["held"]
        assert held["rank, parameters"] <= 0.51 * held["alone, parameters"]
        assert held["rank, a vector"] <= 0.51 * held["alone, a vector"]
        assert held["rank"] <= 0.6 * held["alone"]


def test_sharded_vectors_are_the_whole_ones_cut(two_sharded):
    for rank in two_sharded:
        different, size, shape, less = rank["vectors"]
        assert different == []
        assert shape == [3, size]
        assert less


def test_whole_batches_of_a_sharded_model(two_sharded):
    assert two_sharded[0]["whole batches"] == pytest.approx(
        of_batches(with_statistics(), None, [0, 1, 2]), rel=1e-12
    )


def test_products_are_exact_whatever_a_model_does_with_its_parameters(two_sharded, two_parallel):
    for ranks in (two_sharded, two_parallel):
        assert max(ranks[0]["architectures"]) < 1e-12


def test_a_sharded_model_is_left_as_it_was_found(two_sharded):
    assert all(rank["left as found"] for rank in two_sharded)


def test_what_cannot_be_sharded_is_refused_in_one_sentence(two_sharded):
    expected = [
        "fully_shard",
        "several dimensions",
        "a copy needs whole parameters",
        "received cumsum",
        "received add",
        "sharded",
    ]
    for rank in two_sharded:
        for sentence, words in zip(rank["errors"], expected, strict=True):
            assert words in sentence


def test_protocols_and_fingerprints_of_sharded_models(two_sharded, two_parallel):
    assert two_sharded[0]["protocol"] == "parameters and data sharded over 2 ranks"
    assert two_parallel[0]["protocol"] == "parameters sharded over 2 ranks"
    for ranks in (two_sharded, two_parallel):
        assert ranks[0]["fingerprints"] == ranks[1]["fingerprints"]
        assert len(set(ranks[0]["fingerprints"])) == len(SHARDED)


def test_ranks_of_a_tensor_parallel_model_must_have_the_same_data(two_parallel):
    assert all("all ranks must have the same data" in rank["other data"] for rank in two_parallel)


def test_a_rank_that_dies_in_the_middle_ends_all_with_one_sentence(two_sharded, two_parallel):
    for ranks in (two_sharded, two_parallel):
        assert "all 2 ranks must stay alive while they measure together" in ranks[0]["lost"]


@pytest.mark.skipif(
    not EVERY_CASE,
    reason="takes three minutes of two cores; set SHARPSCOPE_FOUR_RANKS=1, as before a release",
)
@pytest.mark.parametrize("job", [sharded, parallel])
def test_four_ranks_measure_what_one_process_does(tmp_path: Path, job: Callable[..., Any]):
    ranks = run(4, job, tmp_path, FOUR)
    for name, dtype in FOUR:
        assert_equal(ranks[3][f"{name} {dtype}"], name, dtype)
    assert all(rank == ranks[0] for rank in ranks)
