"""Options that say where runs are carried out: what they make, and what is refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from sharpscope.cli.executor_options import ExecutorOptions
from sharpscope.errors import InputError
from sharpscope.sweep import LocalExecutor
from sharpscope.sweep.executors.interface import Resources
from sharpscope.sweep.executors.slurm.commands import SlurmOptions


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": "cloud"}, "--executor must be local, ray or slurm, received 'cloud'"),
        ({"device": "tpu"}, "--device must be cpu or cuda, received 'tpu'"),
        ({"executor": "ray", "device": "cuda:1"}, "--device cuda:1 names a GPU of this machine"),
        ({"gpus": 0.5}, "--gpus is 0.5 and --device cpu uses none"),
        (
            {"memory": 2.0},
            "--memory has no meaning to --executor local; leave it out, or use --executor ray or",
        ),
        ({"executor": "ray", "time": "60"}, "--time has no meaning to --executor ray"),
        ({"executor": "ray", "slurm": ("account=me",)}, "--slurm has no meaning to --executor ray"),
        ({"partition": "long"}, "--partition has no meaning to --executor local"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        ExecutorOptions(**options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["nodes=2", "ntasks=2", "ntasks-per-node=4", "array=0-3", "array=1"])
def test_a_job_is_one_worker_on_one_node(option: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=f"a job is one worker on one node, its ranks included, received {option}"
    ):
        ExecutorOptions(executor="slurm", slurm=(option,)).make(tmp_path)
    assert SlurmOptions(extra={"nodes": "1"}).extra


def test_the_gpus_of_a_machine_are_dealt_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("sharpscope.sweep.usable_cores", lambda: 8)

    def made(**options: object) -> tuple[int, tuple[str, ...]]:
        executor = ExecutorOptions(device=str(options.pop("device", "cuda")), **options).make(tmp_path)
        assert isinstance(executor, LocalExecutor)
        return executor.workers, tuple(executor._devices)

    assert made(workers=4) == (4, ("0", "1", "2"))
    assert made(gpus=0.5) == (6, ("0", "1", "2"))
    assert made(gpus=0.25) == (8, ("0", "1", "2"))  # no more than there are cores
    assert made(gpus=0.25, threads=4) == (2, ("0", "1", "2"))
    assert made(device="cuda:1", workers=2) == (2, ())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert made(workers=4) == (4, ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="needs a CUDA device and this machine has none"):
        made()


@pytest.mark.parametrize("gpus", [-0.5, 1.5, float("nan")])
def test_a_run_has_a_share_of_one_gpu(gpus: float) -> None:
    with pytest.raises(InputError, match="a run uses at most one GPU"):
        Resources(gpus=gpus)


def test_resources_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="memory is 0 GB and must be positive"):
        Resources(memory=0.0)
    with pytest.raises(InputError, match="threads is 0"):
        Resources(threads=0)


@pytest.mark.parametrize("engine", ["ray", "slurm"])
def test_an_engine_that_is_not_there_is_named(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli
) -> None:
    study = '[run]\ndata = { name = "digits" }\nmodel = { name = "mlp" }\nstop = { epochs = 1 }\nbatch_size = 50\n'
    (tmp_path / "tiny.toml").write_text(
        'name = "tiny"\n' + study + 'optimizer = { name = "sgd", lr = 0.1 }\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    if importlib.util.find_spec(engine) is not None:
        monkeypatch.setitem(sys.modules, engine, None)
    code, _, errors = cli("run", "tiny.toml", "--executor", engine)
    assert code == 2
    assert errors.startswith(f"error: --executor {engine} needs ")
    assert errors.count("\n") == 1
