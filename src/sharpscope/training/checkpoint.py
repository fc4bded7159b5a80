"""Checkpoints: weights, optimizer, schedule and average in one safetensors file, written whole or not at all.

Tensors are safetensors entries; everything else is JSON in the file's metadata, under a SHA-256 over both.
Nothing is ever pickled, and no pickle is ever read: loading one may run any code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sharpscope.errors import CheckpointError
from sharpscope.serialization import replacing
from sharpscope.training.state_tree import decode, encode

if TYPE_CHECKING:
    from sharpscope.training.averaging import WeightAverage

_VERSION = "1"


class Schedule(Protocol):
    """Anything with a state to keep: every ``torch.optim.lr_scheduler`` has one."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take a state back."""


def save_checkpoint(
    path: Path | str,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Schedule | None = None,
    metadata: Mapping[str, Any] | None = None,
    average: WeightAverage | None = None,
) -> None:
    """Write a checkpoint atomically: after a crash at any moment, `path` is the old file or the new one.

    `metadata` is any JSON object, returned by `load_checkpoint` and `read_metadata`. Raises `CheckpointError`
    where the file cannot be written, where a ``state_dict`` holds something that is no tensor, number or string,
    or where `metadata` is not JSON.
    """
    path = Path(path)
    tensors: dict[str, torch.Tensor] = {}
    body: dict[str, Any] = {"metadata": dict(metadata or {})}
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"a model's state is made of tensors; {name} is a {type(value).__name__}.")
        tensors[f"model.{name}"] = value
    if optimizer is not None:
        body["optimizer_class"] = type(optimizer).__name__
        body["optimizer"] = encode(optimizer.state_dict(), tensors, "optimizer")
    if schedule is not None:
        body["schedule"] = encode(schedule.state_dict(), tensors, "schedule")
    if average is not None:
        body["average"] = encode(average.state_dict(), tensors, "average")
    stored = _storable(tensors)
    try:
        text = json.dumps(body)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"a checkpoint's metadata must be JSON: {error}.") from error
    header = {"sharpscope_checkpoint": _VERSION, "body": text, "sha256": _checksum(text, stored)}
    try:
        with replacing(path) as partial:
            save_file(stored, partial, metadata=header)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {path} cannot be written: {error}.") from error


def load_checkpoint(
    path: Path | str,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Schedule | None = None,
    average: WeightAverage | None = None,
) -> dict[str, Any]:
    """Load a checkpoint into a model, and into optimizer, schedule and average where given; return its metadata.

    A plain safetensors file of a ``state_dict`` serves as well, for the weights alone. Everything is checked
    before anything is changed. Raises `CheckpointError`, in one sentence, for a file that is missing, truncated,
    altered, a pickle, of another model or dtype, or without the state asked for.
    """
    path = Path(path)
    tensors, body = _read(path)
    if body is None:
        weights, body = tensors, {"metadata": {}}
    else:
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    _check_model(path, weights, model)
    optimizer_state: Any = None
    schedule_state: Any = None
    if optimizer is not None:
        optimizer_state = _decoded_state(path, body, "optimizer", tensors)
        _check_optimizer(path, body["optimizer_class"], optimizer_state, optimizer)
    if schedule is not None:
        schedule_state = _decoded_state(path, body, "schedule", tensors)
    average_state: Any = None if average is None else _decoded_state(path, body, "average", tensors)
    model.load_state_dict(weights)
    if average is not None:
        average.load_state_dict(average_state)
    if optimizer is not None:
        _restore_optimizer(optimizer, optimizer_state)
    if schedule is not None:
        schedule.load_state_dict(schedule_state)
    metadata: dict[str, Any] = body["metadata"]
    return metadata


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Return a checkpoint's metadata, having verified the whole file; raises as `load_checkpoint` does.

    A plain safetensors file has none, and its tensors are not read.
    """
    body = _read(Path(path), kept=False)[1]
    return {} if body is None else dict(body["metadata"])


def _storable(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return contiguous CPU tensors without shared memory: tied weights are written once for each name."""
    stored: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        if plain.untyped_storage().data_ptr() in taken:
            plain = plain.clone()
        taken.add(plain.untyped_storage().data_ptr())
        stored[name] = plain
    return stored


def _checksum(text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        digest.update(content)
    return digest.hexdigest()


def _read(path: Path, *, kept: bool = True) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """Return all tensors of a file and its JSON; None in place of JSON for a file without sharpscope's header.

    Tensors that are not ``kept`` are read to be verified, if at all, and take no memory of their own.
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"the checkpoint {path} {what}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            names = file.keys() if kept or "sharpscope_checkpoint" in header else ()
            tensors = {name: file.get_tensor(name) for name in names}
            if kept:  # the tensors that are read share the memory of the file
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(_unreadable(path, error)) from error
    if "sharpscope_checkpoint" not in header:
        return tensors, None
    if header["sharpscope_checkpoint"] != _VERSION:
        raise CheckpointError(
            f"the checkpoint {path} has format {header['sharpscope_checkpoint']} and this sharpscope reads "
            f"format {_VERSION}; use the version that wrote it."
        )
    if _checksum(header.get("body", ""), tensors) != header.get("sha256"):
        raise CheckpointError(f"the checkpoint {path} is corrupt: its contents do not match its checksum.")
    try:
        body = json.loads(header["body"])
        if not isinstance(body["metadata"], dict):
            raise TypeError("its metadata is no table")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"the checkpoint {path} was not written by sharpscope: {error}.") from error
    return tensors, body


def _unreadable(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04" or (
        start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    ):
        return (
            f"the checkpoint {path} is a pickle (torch.save), which sharpscope never loads because it may run "
            f"any code; convert its state_dict with safetensors.torch.save_file."
        )
    return f"the checkpoint {path} is truncated, corrupt or no safetensors file: {str(error).rstrip('.')}."


def _check_model(path: Path, weights: Mapping[str, torch.Tensor], model: torch.nn.Module) -> None:
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        found = weights.get(name)
        if found is None:
            raise CheckpointError(f"the checkpoint {path} is of another model: it has no {name}.")
        if found.shape != tensor.shape:
            raise CheckpointError(
                f"the checkpoint {path} is of another model: {name} is {tuple(found.shape)} there and "
                f"{tuple(tensor.shape)} here."
            )
        if found.dtype != tensor.dtype:
            raise CheckpointError(
                f"the checkpoint {path} holds {name} as {found.dtype} and the model as {tensor.dtype}; "
                f"convert the model first, with model.to({found.dtype})."
            )
    extra = next((name for name in weights if name not in wanted), None)
    if extra is not None:
        raise CheckpointError(f"the checkpoint {path} is of another model, which has {extra} besides.")


def _decoded_state(path: Path, body: Mapping[str, Any], part: str, tensors: dict[str, torch.Tensor]) -> Any:
    if part not in body:
        raise CheckpointError(f"the checkpoint {path} holds no {part} state.")
    try:
        return decode(body[part], tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"the checkpoint {path} holds no valid {part} state: {error}.") from error


def _check_optimizer(path: Path, name: str, state: Any, optimizer: torch.optim.Optimizer) -> None:
    if name != type(optimizer).__name__:
        raise CheckpointError(
            f"the checkpoint {path} holds the state of {name}, the optimizer is {type(optimizer).__name__}."
        )
    there = [len(group["params"]) for group in state["param_groups"]]
    here = [len(group["params"]) for group in optimizer.param_groups]
    if there != here:
        raise CheckpointError(
            f"the checkpoint {path} holds optimizer state of another model: groups of {there} parameters there, "
            f"{here} here."
        )


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Load optimizer state with its own dtypes, and laid out in memory as its parameters are.

    torch converts every floating state to its parameter's dtype. Beside float64 weights that widens the float32
    accumulators of ASGD and NAdam, and a resumed run would give other bits than the uninterrupted one.
    """
    optimizer.load_state_dict(state)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in state["state"].items():
        parameter = parameters[index]
        loaded = optimizer.state[parameter]
        for key, saved in entries.items():
            if not isinstance(saved, torch.Tensor):
                continue
            value = loaded[key]
            if value.dtype != saved.dtype:
                value = saved.to(value.device)
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                # fused kernels take both as they lie in memory
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            loaded[key] = value
