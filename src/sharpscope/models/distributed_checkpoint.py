"""Weights from a folder that ``torch.distributed.checkpoint`` has written, each rank reading what it holds.

The folder's index, ``.metadata``, is a pickle. Only the classes that describe tensors are made from it; anything else
that it names is refused, so that no code of the file's choice runs.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.errors import CheckpointError

INDEX = ".metadata"

DESCRIBING = {
    "torch.distributed.checkpoint.metadata": {
        *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
        *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {
        *(
            "Size",
            "float16",
            "float32",
            "float64",
            "bfloat16",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "bool",
        ),
        *("complex64", "complex128"),
    },
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath", "PurePosixPath", "Path"},
}
"""What an index may name, by module."""


class _Describing(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in DESCRIBING.get(module, ()):
            return super().find_class(module, name)
        raise CheckpointError(
            f"the index of a distributed checkpoint may describe tensors only, this one names {module}.{name}; "
            "write the checkpoint anew with torch.distributed.checkpoint.save"
        )


def is_distributed_checkpoint(path: Path) -> bool:
    """Return whether a path is a folder with the index of a distributed checkpoint."""
    return path.is_dir() and (path / INDEX).is_file()


def load_distributed_checkpoint(path: Path, model: nn.Module) -> None:
    """Load a model's weights from a distributed checkpoint; of a sharded model every rank reads its own parts.

    The checkpoint holds the model's ``state_dict`` at its top or under ``model``, whatever else it holds. All ranks
    must call this together where the process group is initialised. Raises `CheckpointError` for a folder that is
    incomplete, an index that names code, and names or shapes other than the model's.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    stored = _index(path).state_dict_metadata
    wanted = model.state_dict()
    prefix = next(
        (p for p in ("", "model.", "app.model.") if all(p + name in stored for name in wanted)), None
    )
    if prefix is None:
        missing = next(name for name in wanted if name not in stored and f"model.{name}" not in stored)
        raise CheckpointError(
            f"the checkpoint {path} must hold the weights of {type(model).__name__}, {missing} is not in it; name "
            "the model that was saved"
        )
    for name, tensor in wanted.items():
        shape = getattr(stored[prefix + name], "size", None)
        if isinstance(tensor, Tensor) and shape != tensor.shape:
            raise CheckpointError(
                f"the checkpoint {path} must fit {type(model).__name__}, {name} has the shape {tuple(shape or ())} "
                f"there and {tuple(tensor.shape)} in the model; name the model that was saved"
            )
    state = {prefix + name: tensor for name, tensor in wanted.items()}
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    try:
        load(state, storage_reader=_reader(path), no_dist=alone)
    except CheckpointError:
        raise
    except (Exception, CheckpointException) as error:  # the latter gathers what went wrong on every rank
        said = str(error).strip().splitlines()
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({said[-1] if said else type(error).__name__}); copy the whole "
            "folder again"
        ) from error
    model.load_state_dict({name: state[prefix + name] for name in wanted})


def _index(path: Path) -> Any:
    try:
        index = _Describing(io.BytesIO((path / INDEX).read_bytes())).load()
        states: Mapping[str, Any] = index.state_dict_metadata
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"the index {path / INDEX} is truncated or no index of a distributed checkpoint; copy the folder again"
        ) from error
    if not isinstance(states, dict):
        raise CheckpointError(f"the index {path / INDEX} describes no tensors; copy the folder again")
    return index


def _reader(path: Path) -> Any:
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    class Reader(FileSystemReader):
        """Reads the index without running what it names."""

        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            return _index(path)

    return Reader(path)
