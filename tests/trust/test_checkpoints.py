"""Checkpoints from someone else run no code and name no code."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import pytest
import torch

from sharpscope.data import files, load
from sharpscope.errors import CheckpointError
from sharpscope.models import build
from sharpscope.sweep import Store
from sharpscope.training import load_checkpoint, read_metadata, save_checkpoint
from trust.marks import untouched


@pytest.mark.parametrize("name", ["os:system", "evil:make"])
def test_a_checkpoint_names_no_code(cli, folder: Path, name: str) -> None:
    run = {
        "data": {"name": "digits"},
        "model": {"name": name, "options": {"command": "touch called"}},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 8,
        "stop": {"epochs": 1},
    }
    save_checkpoint("received.safetensors", torch.nn.Linear(2, 1), metadata={"run": run})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert code == 2
    assert f"the checkpoint names the model '{name}', which is code" in err
    assert untouched(folder)


def test_a_checkpoint_names_no_loss_that_is_code(cli, folder: Path) -> None:
    run = {
        "data": {"name": "digits"},
        "model": {"name": "mlp", "options": {"hidden": [2]}},
        "loss": "evil:make",
        "optimizer": {"name": "evil:make", "lr": 0.1},
        "batch_size": 8,
        "stop": {"epochs": 1},
    }
    model = build("mlp", load("digits"), 0, hidden=[2])
    save_checkpoint("received.safetensors", model, metadata={"run": run})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert code == 2
    assert "names the loss evil:make, which is code" in err
    assert untouched(folder)
    save_checkpoint("received.safetensors", model, metadata={"run": {**run, "loss": None}})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert code == 0, err
    assert untouched(folder)


def test_a_checkpoint_chooses_no_file_to_read(cli, folder: Path, store: Store) -> None:
    secret = folder / "secret.csv"
    secret.write_text("x,y\n" + "1,2\n3,4\n" * 10)
    run = {
        "data": {"name": "table", "path": str(secret), "digest": files.digest_of(secret), "target": "y"},
        "model": {"name": "mlp"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 8,
        "stop": {"epochs": 1},
    }
    save_checkpoint("received.safetensors", torch.nn.Linear(2, 1), metadata={"run": run})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert code == 2
    assert "must be given its path" in err


@pytest.mark.parametrize(
    "run", [7, [], {}, {"model": "mlp"}, {"model": {"name": "os:system", "options": {"x": float("inf")}}}]
)
def test_odd_metadata_is_refused_in_a_sentence(cli, folder: Path, run: object) -> None:
    save_checkpoint("received.safetensors", torch.nn.Linear(2, 1), metadata={"run": run})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert (code, err.count("\n")) == (2, 1)
    assert "names no valid run" in err


def test_a_pickle_is_refused_unread(folder: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return os.system, ("touch called",)

    for protocol in (2, 4):
        Path("model.pt").write_bytes(pickle.dumps({"weights": Bomb()}, protocol=protocol))
        with pytest.raises(CheckpointError, match="is a pickle"):
            load_checkpoint("model.pt", torch.nn.Linear(2, 1))
    torch.save({"weights": Bomb()}, "model.pt")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_checkpoint("model.pt", torch.nn.Linear(2, 1))
    assert untouched(folder)


def header(text: bytes, rest: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + rest


@pytest.mark.parametrize(
    "content",
    [
        header(b"{}", length=2**63),
        header(b"{}", length=2**40),
        header(b"[" * 100_000),
        header(b'{"a":' * 50_000),
        header(b'{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', b"\0" * 4),
        header(b'{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}', b"\0" * 16),
        header(b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[-16,0]}}', b"\0" * 16),
        header(
            b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
            b'"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
            b"\0" * 16,
        ),
        header(b'{"w":{"dtype":"../../x","shape":[4],"data_offsets":[0,16]}}', b"\0" * 16),
        header(b'{"__metadata__":{"sharpscope_checkpoint":7}}'),
        b"",
        b"\0" * 7,
    ],
)
def test_a_hostile_safetensors_header_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "received.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError) as refused:
        read_metadata(tmp_path / "received.safetensors")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("body", ["", "[]", "7", '{"metadata": []}', "[" * 100_000, '{"meta": {}}'])
def test_a_hostile_body_with_the_right_checksum_is_refused(tmp_path: Path, body: str) -> None:
    from safetensors.torch import save_file

    from sharpscope.training import checkpoint

    path, tensors = tmp_path / "received.safetensors", {"model.weight": torch.zeros(2)}
    seal = checkpoint._checksum(body, tensors)
    save_file(tensors, path, metadata={"sharpscope_checkpoint": "1", "body": body, "sha256": seal})
    with pytest.raises(CheckpointError, match="was not written by sharpscope"):
        read_metadata(path)
