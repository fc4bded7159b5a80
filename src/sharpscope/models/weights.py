"""Weights of the user's own: safetensors, also in shards, and what torch.save wrote, read as tensors only.

A file is never unpickled but with ``weights_only=True``, which builds tensors and plain containers and calls nothing
else that the file names.
"""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sharpscope.errors import CheckpointError

PICKLED = (".pt", ".pth", ".ckpt", ".bin")
NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
"""Keys under which a training script's dictionary usually holds the model's weights, Lightning's first."""

INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile and the wrappers of layers put into names, at the start or within."""

WRAPPERS = ("module.", "model.", "net.", "network.", "backbone.")
"""Prefixes that DataParallel and a Lightning module's attribute put before every name."""

UNNEEDED = "num_batches_tracked"
"""A counter of batch normalisation, which changes no output while its momentum is set."""


_PRECISIONS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""safetensors' names of the precisions that decide what a model is measured in."""

Cut = tuple[slice, ...]
"""Which part of a tensor is meant: a range for each of its first dimensions; empty for all of it."""


@dataclass(frozen=True)
class _Stored:
    """A tensor of a file: its shape, its precision where that matters, and the call that reads a part of it."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    read: Callable[[Cut], Tensor]


@dataclass(frozen=True)
class Weights:
    """Weights of a file that are those of a model, and notes on what is done to them.

    Of safetensors nothing is read before `put_into` asks for it.
    """

    tensors: Mapping[str, _Stored]
    notes: tuple[str, ...]

    def put_into(self, model: nn.Module) -> None:
        """Put the weights into the model, which may have been sharded since: each rank then reads its own parts."""
        wanted = model.state_dict()
        if not any(hasattr(tensor, "device_mesh") for tensor in wanted.values()):
            model.load_state_dict({name: stored.read(()) for name, stored in self.tensors.items()})
            return
        with torch.no_grad():
            for name, tensor in wanted.items():
                own, cut = _own_part(tensor)
                if own.numel():
                    own.copy_(self.tensors[name].read(cut))


def load_weights(path: Path, model: nn.Module) -> tuple[str, ...]:
    """Put the weights of a file, or of a folder of shards, into a model; return notes on what was done to them.

    See `find_weights`.
    """
    found = find_weights(path, model)
    found.put_into(model)
    return found.notes


def find_weights(path: Path, model: nn.Module) -> Weights:
    """Return the weights of a file, or of a folder of shards, for a model.

    Takes ``.safetensors``; a folder or ``.index.json`` of shards; ``.pt``, ``.pth``, ``.bin`` and Lightning's
    ``.ckpt`` with ``weights_only=True``. Prefixes of wrappers are taken off. Half precision is widened to the
    model's precision exactly; where the file holds float64, the model becomes float64. Raises `CheckpointError`, one
    sentence, for a file that is missing, damaged or not of this model, before anything is changed.
    """
    weights, notes = _read(path)
    wanted = model.state_dict(keep_vars=True)
    weights, taken = _without_wrappers(weights, set(wanted))
    if taken:
        notes.append(f"Weights: {' and '.join(taken)} is taken off the names in {path.name}.")
    if path.suffix == ".ckpt":
        beside = [name for name in weights if name not in wanted]
        if beside and set(wanted) <= set(weights):
            notes.append(
                f"Weights: {_some(beside)} of {path.name} belong to no part of the model and are left out."
            )
            weights = {name: tensor for name, tensor in weights.items() if name in wanted}
    for name in [name for name in wanted if name not in weights]:
        tied = next((n for n in weights if n in wanted and _same(wanted[n], wanted[name])), None)
        if tied is not None:
            weights[name] = weights[tied]
        elif name.endswith(UNNEEDED):
            weights[name] = _held(torch.zeros_like(wanted[name], device="cpu"))
    _check(path, weights, wanted)
    kinds = {stored.dtype for stored in weights.values()}
    if torch.float64 in kinds:
        model.double()
    narrow = kinds & {torch.float16, torch.bfloat16}
    if narrow:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in narrow))
        notes.append(
            f"Weights: {path.name} holds {names}; they are measured at these very values in float32."
        )
    return Weights(weights, tuple(notes))


def _own_part(tensor: Any) -> tuple[Tensor, Cut]:
    """Return what this rank holds of a model's tensor, and which part of the whole that is.

    torch cuts one dimension as ``torch.chunk`` does: all parts but the last ones have ⌈n / ranks⌉ rows.
    """
    if not hasattr(tensor, "device_mesh"):
        return tensor, ()
    own: Tensor = tensor.to_local()
    (how,) = tensor.placements
    if not how.is_shard():
        return own, ()
    rank, ranks = tensor.device_mesh.get_local_rank(), tensor.device_mesh.size()
    start = rank * math.ceil(tensor.shape[how.dim] / ranks)
    return own, (slice(None),) * how.dim + (slice(start, start + own.shape[how.dim]),)


def _held(tensor: Tensor) -> _Stored:
    """Return a tensor that is in memory already."""
    dtype = tensor.dtype if tensor.is_floating_point() else None
    return _Stored(tuple(tensor.shape), dtype, lambda cut: tensor[cut])


def _read(path: Path) -> tuple[dict[str, _Stored], list[str]]:
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise CheckpointError(f"the checkpoint {path} does not exist; correct the path")
    if path.name.endswith(".index.json"):
        return _read_shards(path), []
    if path.suffix == ".safetensors":
        return _read_safetensors(path), []
    if path.suffix in PICKLED:
        return _read_pickled(path)
    raise CheckpointError(
        f"a checkpoint's name must end in .safetensors, .index.json, {', '.join(PICKLED)}, received {path.name!r}; "
        "rename it to what it is"
    )


def _read_folder(folder: Path) -> tuple[dict[str, _Stored], list[str]]:
    indices = sorted(folder.glob("*.safetensors.index.json")) or sorted(folder.glob("*.index.json"))
    if len(indices) == 1:
        return _read_shards(indices[0]), []
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return _read_safetensors(files[0]), []
    raise CheckpointError(
        f"a folder of weights must hold one .index.json or one .safetensors, {folder} holds {len(indices)} and "
        f"{len(files)}; name the file"
    )


def _read_safetensors(path: Path) -> dict[str, _Stored]:
    try:
        file: Any = safe_open(path, framework="pt")
        ours = "sharpscope_checkpoint" in (file.metadata() or {})
        tensors = {name: _in_file(file, name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint {path} is truncated, corrupt or no safetensors file ({str(error).rstrip('.')}); copy it "
            "again"
        ) from error
    if ours:  # beside the weights it holds the optimizer's state
        return {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    return tensors


def _in_file(file: Any, name: str) -> _Stored:
    """Return a tensor of an open safetensors file, of which a part is read when it is asked for."""
    part = file.get_slice(name)
    return _Stored(
        tuple(part.get_shape()),
        _PRECISIONS.get(part.get_dtype()),
        lambda cut: part[cut] if cut else file.get_tensor(name),
    )


def _read_shards(index: Path) -> dict[str, _Stored]:
    """Read the shards that an index lists, which must lie beside it."""
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(listed.values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("it must name files beside it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index} is no index of shards ({error}); copy the folder again") from error
    weights: dict[str, _Stored] = {}
    for name in names:
        shard = index.parent / name
        if not shard.is_file():
            raise CheckpointError(
                f"{index.name} lists the shard {name}, which is not beside it; copy it there"
            )
        weights |= _read_safetensors(shard) if shard.suffix == ".safetensors" else _read_pickled(shard)[0]
    absent = next((name for name in listed if name not in weights), None)
    if absent is not None:
        raise CheckpointError(f"{index.name} lists {absent}, which is in no shard; copy the folder again")
    return weights


def _read_pickled(path: Path) -> tuple[dict[str, _Stored], list[str]]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"the checkpoint {path} holds more than tensors ({_named(str(error))}), and what a file names is not "
            "run; save model.state_dict() instead of the model"
        ) from error
    except Exception as error:  # zip, legacy and storage errors are of many classes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CheckpointError(
            f"the checkpoint {path} is truncated, corrupt or not written by torch.save ({reason}); save it anew"
        ) from error
    notes: list[str] = []
    while isinstance(found, Mapping) and not any(isinstance(v, Tensor) for v in found.values()):
        key = next((k for k in NESTED if isinstance(found.get(k), Mapping)), None)
        if key is None:
            break
        notes = [f"Weights: {path.name} holds them under {key!r}."]
        found = found[key]
    tensors = (
        {str(k): _held(v) for k, v in found.items() if isinstance(v, Tensor)}
        if isinstance(found, Mapping)
        else {}
    )
    if not tensors:
        keys = ", ".join(map(str, list(found)[:8])) if isinstance(found, Mapping) else type(found).__name__
        raise CheckpointError(
            f"the checkpoint {path} must be a state_dict, or hold one under {', '.join(NESTED[:4])}; it holds "
            f"{keys}: save model.state_dict()"
        )
    return tensors, notes


def _named(message: str) -> str:
    """Return what torch says a file wanted to run, out of its long message."""
    found = re.search(r"(?:GLOBAL|instantiate|function) ([\w.<> -]*\w)", message)
    return found.group(1).split()[0] if found else "objects that torch does not name"


def _without_wrappers(weights: dict[str, _Stored], wanted: set[str]) -> tuple[dict[str, _Stored], list[str]]:
    """Take off what wrappers put before and between names, while that makes more of the wanted names appear."""
    taken: list[str] = []
    for inside in INSIDE:
        if any(inside in name for name in weights) and not any(inside in name for name in wanted):
            weights = {name.replace(inside, ""): tensor for name, tensor in weights.items()}
            taken.append(inside)
    while not wanted <= set(weights):
        trials = []
        for prefix in WRAPPERS:
            renamed = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
            if len(renamed) == len(weights) and set(renamed) != set(weights):
                deeper = max(
                    len(wanted & {name.removeprefix(p) for name in renamed}) for p in ("", *WRAPPERS)
                )
                trials.append((deeper, prefix, renamed))
        found, prefix, renamed = max(trials, key=lambda trial: trial[0], default=(0, "", weights))
        if found <= len(wanted & set(weights)):
            break
        weights = renamed
        taken.append(prefix)
    return weights, taken


def _same(one: Tensor, other: Tensor) -> bool:
    """Return whether two names stand for one tied parameter."""
    if one.is_meta:
        return one is other
    return one.shape == other.shape and one.numel() > 0 and one.data_ptr() == other.data_ptr()


def _check(path: Path, weights: Mapping[str, _Stored], wanted: Mapping[str, Tensor]) -> None:
    missing = [name for name in wanted if name not in weights]
    extra = [name for name in weights if name not in wanted]
    if missing:
        has = f"it has {_some(extra)} instead" if extra else "the model has more layers than the file"
        raise CheckpointError(
            f"the checkpoint {path.name} is of another model: it has no {_some(missing)}; {has}"
        )
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"the checkpoint {path.name} is of another model: {name} is {tuple(weights[name].shape)} there and "
                f"{tuple(tensor.shape)} here; build the model with the options it was trained with"
            )
    if extra:
        raise CheckpointError(
            f"the checkpoint {path.name} is of another model, which has {_some(extra)} besides; build that model"
        )


def _some(names: list[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
