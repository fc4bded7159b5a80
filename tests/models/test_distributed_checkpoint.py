"""Folders of torch.distributed.checkpoint: read without running what their index names, by one process or several.

Ranks read safetensors too, each its own parts.
"""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_saver import save

from ranks import run
from sharpscope.errors import CheckpointError
from sharpscope.models.distributed_checkpoint import (
    INDEX,
    is_distributed_checkpoint,
    load_distributed_checkpoint,
)
from sharpscope.models.weights import Weights, find_weights


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 7), nn.BatchNorm1d(7), nn.Linear(7, 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(model().state_dict(), checkpoint_id=tmp_path / "whole", no_dist=True)
    return tmp_path / "whole"


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_one_process_reads_a_folder(folder: Path):
    other = model(1)
    assert is_distributed_checkpoint(folder)
    load_distributed_checkpoint(folder, other)
    assert same(other, model())


def test_weights_may_lie_under_a_key_beside_other_state(tmp_path: Path):
    state = {"model": model().state_dict(), "step": torch.tensor(3)}
    save(state, checkpoint_id=tmp_path / "app", no_dist=True)
    other = model(1)
    load_distributed_checkpoint(tmp_path / "app", other)
    assert same(other, model())


def test_an_index_that_names_code_is_refused_before_it_runs(folder: Path, tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (folder / INDEX).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="may describe tensors only"):
        load_distributed_checkpoint(folder, model())
    assert not (tmp_path / "ran").exists()


def test_what_does_not_fit_is_refused_in_one_sentence(folder: Path):
    with pytest.raises(
        CheckpointError, match=r"must fit Sequential, 0.weight has the shape \(7, 4\) there and \(8, 4\)"
    ):
        load_distributed_checkpoint(
            folder, nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(7), nn.Linear(7, 3))
        )
    with pytest.raises(CheckpointError, match=r"must hold the weights of Linear, weight is not in it"):
        load_distributed_checkpoint(folder, nn.Linear(4, 7))
    next(folder.glob("*.distcp")).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_distributed_checkpoint(folder, model())
    (folder / INDEX).write_bytes(b"not an index")
    with pytest.raises(CheckpointError, match="truncated or no index"):
        load_distributed_checkpoint(folder, model())


def sharded(rank: int, whole: str, parts: str, file: str) -> dict[str, Any]:
    """Read whole weights into sharded models, write one of them sharded, and read that into a whole model."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    cut: Any = fully_shard(model(1), mesh=mesh)
    load_distributed_checkpoint(Path(whole), cut)
    save(cut.state_dict(), checkpoint_id=parts)
    again = model(2)
    load_distributed_checkpoint(Path(parts), again)
    found: dict[str, Any] = {"of a folder": same(again, model())}
    found["less"] = all(p.to_local().numel() < p.numel() for p in cut.parameters())
    with torch.device("meta"):
        hollow = model()
    for name, start in (("built", model(1)), ("empty", hollow)):
        read: dict[str, int] = {}
        weights = counted(find_weights(Path(file), start), read)
        cut = fully_shard(start, mesh=mesh)
        if name == "empty":
            cut.to_empty(device="cpu")
        weights.put_into(cut)
        tensors = {
            n: t.full_tensor() if hasattr(t, "full_tensor") else t for n, t in cut.state_dict().items()
        }
        found[name] = all(torch.equal(tensor, tensors[n]) for n, tensor in model().state_dict().items())
        found[f"{name}, read"] = [read[n] == p.to_local().numel() for n, p in cut.named_parameters()]
    return found


def counted(weights: Weights, read: dict[str, int]) -> Weights:
    """Return the weights, noting how many numbers of each tensor are read."""

    def noting(name: str, reading: Any) -> Any:
        def call(cut: Any) -> Tensor:
            found: Tensor = reading(cut)
            read[name] = found.numel()
            return found

        return call

    tensors = {n: dataclasses.replace(s, read=noting(n, s.read)) for n, s in weights.tensors.items()}
    return dataclasses.replace(weights, tensors=tensors)


def test_ranks_read_their_own_parts(folder: Path, tmp_path: Path):
    world = tmp_path / "world"
    world.mkdir()
    save_file(model().state_dict(), tmp_path / "w.safetensors")
    ranks = run(2, sharded, world, str(folder), str(tmp_path / "parts"), str(tmp_path / "w.safetensors"))
    for found in ranks:
        assert found == {
            **dict.fromkeys(("of a folder", "less", "built", "empty"), True),
            **dict.fromkeys(("built, read", "empty, read"), [True] * 6),
        }
    alone = model(3)
    load_distributed_checkpoint(tmp_path / "parts", alone)
    assert same(alone, model())
