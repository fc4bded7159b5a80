"""Weights of the user's own, however they were saved."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sharpscope.errors import CheckpointError
from sharpscope.models.weights import load_weights
from sharpscope.training import save_checkpoint

State = dict[str, Any]


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture
def trained() -> nn.Module:
    torch.manual_seed(1)
    return net()


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


CASES: dict[str, tuple[str, Callable[[State], Any], str]] = {
    "plain": ("w.pt", lambda s: s, ""),
    "ordered": ("w.pth", OrderedDict, ""),
    "nested": (
        "w.pt",
        lambda s: {"epoch": 3, "model_state_dict": s, "optimizer": {"state": {}}},
        "model_state_dict",
    ),
    "DataParallel": ("w.pt", lambda s: prefixed(s, "module."), "module. is taken off"),
    "compiled": ("w.bin", lambda s: prefixed(s, "_orig_mod."), "_orig_mod. is taken off"),
    "both": ("w.pt", lambda s: prefixed(s, "module._orig_mod."), "_orig_mod. and module. is taken off"),
    "compiled layer": (
        "w.pt",
        lambda s: {n.replace("0.", "0._orig_mod."): t for n, t in s.items()},
        "_orig_mod.",
    ),
    "Lightning": (
        "w.ckpt",
        lambda s: {
            "state_dict": prefixed(s, "model.") | {"loss.weight": torch.ones(2)},
            "epoch": 1,
            "callbacks": {},
        },
        "loss.weight of w.ckpt belong to no part",
    ),
    "Lightning, compiled": (
        "w.ckpt",
        lambda s: {"state_dict": prefixed(s, "net._orig_mod.")},
        "net. is taken off",
    ),
    "half precision": (
        "w.pt",
        lambda s: {n: t.half() if t.is_floating_point() else t for n, t in s.items()},
        "float16",
    ),
    "without counters": ("w.pt", lambda s: {n: t for n, t in s.items() if "num_batches" not in n}, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_what_torch_saved(trained: nn.Module, tmp_path: Path, name: str) -> None:
    file, change, words = CASES[name]
    torch.save(change(trained.state_dict()), tmp_path / file)
    model = net()
    notes = load_weights(tmp_path / file, model)
    exact = name != "half precision"
    for key, tensor in trained.state_dict().items():
        expected = tensor if exact or not tensor.is_floating_point() else tensor.half().float()
        assert torch.equal(model.state_dict()[key], expected), key
    assert words in " ".join(notes)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_double_precision_makes_the_model_double(trained: nn.Module, tmp_path: Path) -> None:
    save_file(trained.double().state_dict(), tmp_path / "w.safetensors")
    model = net()
    load_weights(tmp_path / "w.safetensors", model)
    assert torch.equal(model[0].weight, trained[0].weight)  # type: ignore[index]


def shards(trained: nn.Module, folder: Path) -> Path:
    folder.mkdir()
    state = trained.state_dict()
    names = list(state)
    parts = {"a.safetensors": names[:4], "b.safetensors": names[4:]}
    for file, held in parts.items():
        save_file({n: state[n] for n in held}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {n: f for f, held in parts.items() for n in held}}))
    return index


def test_shards_and_folders(trained: nn.Module, tmp_path: Path) -> None:
    index = shards(trained, tmp_path / "w")
    for place in (index, tmp_path / "w"):
        model = net()
        load_weights(place, model)
        assert torch.equal(model[2].weight, trained[2].weight)  # type: ignore[index]
    content = json.loads(index.read_text())
    for change, words in (
        ({"0.weight": "../a.safetensors"}, "must name files beside it"),
        ({"0.weight": "c.safetensors"}, "lists the shard c.safetensors"),
        ({"9.weight": "a.safetensors"}, "lists 9.weight, which is in no shard"),
    ):
        index.write_text(json.dumps({"weight_map": {**content["weight_map"], **change}}))
        with pytest.raises(CheckpointError, match=words):
            load_weights(index, net())
    index.write_text("[1]")
    with pytest.raises(CheckpointError, match="no index of shards"):
        load_weights(index, net())


def test_sharpscope_s_own_checkpoint_without_its_optimizer(trained: nn.Module, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(trained.parameters(), 0.1, momentum=0.9)
    save_checkpoint(tmp_path / "w.safetensors", trained, optimizer)
    model = net()
    assert load_weights(tmp_path / "w.safetensors", model) == ()
    assert torch.equal(model[0].weight, trained[0].weight)  # type: ignore[index]


def test_tied_weights_that_were_saved_once(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
        model["head"].weight = model["embedding"].weight
        return model

    one, other = tied(), tied()
    save_file({"embedding.weight": one["embedding"].weight.detach()}, tmp_path / "w.safetensors")  # type: ignore[index]
    load_weights(tmp_path / "w.safetensors", other)
    assert torch.equal(other["head"].weight, one["embedding"].weight)  # type: ignore[index]


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (
            "w.pt",
            lambda s: {"w": Runs()},
            r"more than tensors \(\w+\.system\), and what a file names is not run",
        ),
        ("w.pt", lambda s: net(), "more than tensors .*save model.state_dict"),
        ("w.pt", lambda s: {"epoch": 1}, "it holds epoch"),
        ("w.pt", lambda s: torch.ones(2), "it holds Tensor"),
        (
            "w.pt",
            lambda s: {n: t for n, t in s.items() if n != "2.bias"},
            "it has no 2.bias; the model has more",
        ),
        ("w.pt", lambda s: s | {"3.weight": torch.ones(1)}, "which has 3.weight besides"),
        (
            "w.pt",
            lambda s: s | {"0.weight": torch.ones(4, 9)},
            r"0.weight is \(4, 9\) there and \(4, 3\) here",
        ),
        ("w.ckpt", lambda s: {"state_dict": {"x.y": torch.ones(1)}}, "it has x.y instead"),
        ("w.h5", lambda s: s, "must end in .safetensors"),
    ],
)
def test_what_is_refused_before_anything_changes(
    trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content(trained.state_dict()), file)
    model = net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=words) as told:
        load_weights(Path(file), model)
    assert "\n" not in str(told.value)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert not Path("ran").exists()


@pytest.mark.parametrize("file", ["w.pt", "w.ckpt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x02 cut", b"text"])
def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path, file: str, content: bytes) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError) as told:
        load_weights(tmp_path / file, net())
    assert "\n" not in str(told.value)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_weights(tmp_path / "none.pt", net())
    with pytest.raises(CheckpointError, match="a folder of weights must hold"):
        load_weights(tmp_path / ".", net()) if file != "w.safetensors" else load_weights(Path("/"), net())
