"""Two gloo processes that share one model's parameters: the steps of one process, or a refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from optim import sharded_worker
from optim.sharded_worker import CELLS, KINDS, OPTIONS, STEPS, data, network, steps
from optim.test_refusals import reference

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch without distributed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    command = [sys.executable, sharded_worker.__file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in (0, 1)]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return folder


def in_one_process(name: str) -> nn.Module:
    model = network()
    steps(model, KINDS[name](model.parameters(), **OPTIONS), range(STEPS), None, "closure")
    return model


@pytest.mark.parametrize("style", ["closure", "two steps"])
@pytest.mark.parametrize("name", KINDS)
def test_fsdp2_takes_the_steps_of_one_process(name: str, style: str, folder: Path) -> None:
    expected = in_one_process(name).state_dict()
    plain = in_one_process("SAM" if name != "SAM" else "ASAM").state_dict()
    for rank in (0, 1):
        found = torch.load(folder / f"fsdp2.{name}.{style}.{rank}.pt")
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-12)
    assert max((expected[k] - plain[k]).abs().max() for k in expected) > 1e-4


@pytest.mark.parametrize("name", KINDS)
def test_a_distributed_checkpoint_goes_on_with_the_same_bits(name: str, folder: Path) -> None:
    for rank in (0, 1):
        whole = torch.load(folder / f"fsdp2.{name}.closure.{rank}.pt")
        resumed = torch.load(folder / f"resumed.{name}.{rank}.pt")
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("style", ["closure", "two steps"])
def test_the_zero_redundancy_optimizer_as_base(style: str, folder: Path) -> None:
    expected = in_one_process("SAM").state_dict()
    for rank in (0, 1):
        found, watched = (torch.load(folder / f"zero.{style}.{watch}.{rank}.pt") for watch in (False, True))
        assert all(torch.equal(found[key], watched[key]) for key in found)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_ddp_in_every_precision(cell: str, folder: Path) -> None:
    within = 5e-3 if "bfloat16" in cell else 1e-3 if "float16" in cell else 1e-6
    x, y = data(0)
    expected = reference(network(), 0.5, 0.1, loss=lambda m: nn.functional.cross_entropy(m(x), y))
    first, *others = (
        torch.load(folder / f"ddp.{cell}.{watch}.{rank}.pt") for rank in (0, 1) for watch in (False, True)
    )
    for name, value in expected.items():
        assert all(torch.equal(first[name], other[name]) for other in others)  # of each rank, watched or not
        torch.testing.assert_close(first[name].double(), value, rtol=0, atol=within)
    assert max((expected[n] - p).abs().max() for n, p in network().named_parameters()) > 2 * within


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_refused_names_its_remedy(rank: int, folder: Path) -> None:
    said = torch.load(folder / f"said.{rank}.pt")
    assert "SAM(params, ZeroRedundancyOptimizer" in said["zero outside"]
    assert "fully_shard" in said["fsdp1 False"]
    assert "fully_shard" in said["fsdp1 True"]
    assert said["unscaled early False"] == ""
    assert "belongs between" in said["unscaled early True"]
    assert "sequence of closures" in said["accumulation"]
