"""What a command measures, and data of the user's own by options or by ``package.module:factory``."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.cli.options import TargetOptions
from sharpscope.errors import InputError, SharpscopeError

if TYPE_CHECKING:
    from sharpscope.data import Dataset
    from sharpscope.data.own import OwnData
    from sharpscope.objective.objective import Objective

OWN_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""``package.module:factory``, as a model or as data."""


@dataclass(frozen=True)
class Target:
    """An objective, what its model and its data are called, and what stands beside any number taken from it."""

    obj: Objective
    model: str
    data: str
    standardisation: str
    notes: tuple[str, ...]
    counted: str
    """What the objective's samples are: ``samples``, ``train samples`` of a data set with parts, ``tokens``."""


@contextmanager
def own_errors(what: str) -> Iterator[None]:
    """Turn what the user's own code raises while an objective is built into one sentence with the place in it."""
    try:
        yield
    except SharpscopeError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{what} must be computable on these data, it raised {type(error).__name__} ({error}) in "
            f"{Path(place.filename).name}, line {place.lineno}; correct the code or the data"
        ) from error


def own_data(chosen: TargetOptions, path: Path) -> OwnData:
    """Return the data that a path and the options about columns name."""
    from sharpscope.data.own import OwnData

    columns = tuple(chosen.column) if chosen.column else None
    task: Any = chosen.task
    return OwnData(path, chosen.target, columns, task, chosen.standardise, chosen.part)


def call_data_factory(name: str, part: str) -> Any:
    """Return what the user's function returns, called with ``part`` if it takes that."""
    from sharpscope.data.row_files import whole
    from sharpscope.models.own_code import call_own, current_folder_importable, find_own, takes

    with current_folder_importable():
        factory = find_own(name, "data", "inputs and targets")
        if not takes(factory, "part"):
            whole(name, part)
            return call_own(name, "data", factory)
        return call_own(name, "data", factory, part=part)


def dataset_of(found: Any, name: str) -> Dataset:
    """Return a data set of what a factory returned.

    A pair of tensors or arrays (inputs, targets), a data set of pairs (``torch.utils.data.Dataset``), or batches of
    pairs that can be read twice, such as a ``DataLoader`` that does not shuffle. Targets are class numbers if they
    are integers (n,), else numbers. A `sharpscope.data.Dataset` is taken as it is. Raises `InputError` for all else.
    """
    import torch

    from sharpscope.data import Dataset
    from sharpscope.data.own import one_part

    if isinstance(found, Dataset):
        return found
    if isinstance(found, Mapping):
        raise InputError(
            f"the data {name} must be pairs of inputs and targets, received a dictionary; dictionaries of tensors "
            "are for models of transformers, hf:FOLDER_OR_NAME"
        )
    try:
        inputs, targets = _tensors(found)
    except InputError as error:
        raise InputError(f"the data {name}: {error}") from error
    if not targets.is_floating_point() and targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if not targets.is_floating_point() and targets.ndim > 1:
        raise InputError(
            f"the data {name} must have one class for each sample, its targets have the shape "
            f"{tuple(targets.shape)}; measure other losses in Python, with Objective"
        )
    if targets.is_floating_point():
        targets = targets.reshape(len(targets), -1)
        outputs = targets.shape[1]
    else:
        targets = targets.to(torch.int64)
        if int(targets.min()) < 0:
            raise InputError(
                f"classes must be numbers from 0, the data {name} has {int(targets.min())}; number them anew"
            )
        outputs = max(int(targets.max()) + 1, 2)
    note = f"{name}: inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}."
    return one_part(name, inputs, targets, outputs, "inputs as the function returns them", (note,))


def _tensors(found: Any) -> tuple[Any, Any]:
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from torch.utils.data import Dataset as TorchDataset

    from sharpscope.objective.batches import FixedBatches

    def tensor(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "biuf":
                raise InputError(f"arrays must hold numbers, received one of type {value.dtype}; convert it")
            return torch.from_numpy(np.ascontiguousarray(value))
        return value

    if isinstance(found, list | tuple) and len(found) == 2:
        found = tuple(tensor(value) for value in found)
    if isinstance(found, TensorDataset):
        found = tuple(found.tensors)
    if isinstance(found, TorchDataset):
        found = DataLoader(found, batch_size=256)
    inputs, targets = FixedBatches(found, pairs=True).tensors()
    if inputs.is_floating_point() and inputs.dtype not in (torch.float32, torch.float64):
        inputs = inputs.float()
    return inputs, targets
