"""Data of the user's own for a command: a table, arrays, a folder of images, or what a function returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sharpscope.data.dataset import Dataset, Split
from sharpscope.data.image_folder import decode, is_image_folder, read_image_folder
from sharpscope.data.row_files import READERS, read_rows, whole
from sharpscope.data.table import input_columns, numbers_in, standardised
from sharpscope.errors import DataError, InputError, suggestion

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class OwnData:
    """Where data lie and how they are meant.

    - ``path``: CSV, Parquet, JSON, ``.npz``, or a folder of images or of rows.
    - ``target``: the column, or the array, to predict; ``columns``: the inputs, by default every other column of
      numbers, or the other array.
    - ``task``: by default a column of integers that are exactly 0 … K − 1 holds classes, as does text; other numbers
      make a regression.
    - ``standardise``: inputs less their mean over their standard deviation, for each column or channel. Otherwise
      inputs are taken as they stand, pixels over 255: a trained network expects what it was trained on.
    - ``part``: which part of a folder that has parts.
    """

    path: Path
    target: str | None = None
    columns: tuple[str, ...] | None = None
    task: Task | None = None
    standardise: bool = False
    part: str = "train"

    def load(self) -> Dataset:
        """Return the data, all in one part; raise DataError or InputError, one sentence, for what cannot be used.

        Inputs are (rows, columns), (n, channels, height, width) or as an array has them; targets (n,) class numbers
        or (n, d) numbers. Classes that are integers keep their numbers, others are numbered in sorted order.
        """
        if self.path.is_file():
            whole(self.path.name, self.part)
        if self.path.suffix == ".npz" and self.path.is_file():
            inputs, targets, notes = self._arrays()
        elif is_image_folder(self.path):
            images = read_image_folder(self.path, self.target, self.part)
            inputs, targets, notes = images.pixels, np.array(images.labels), images.notes
        else:
            inputs, targets, notes = self._table()
        return self._dataset(inputs, targets, notes)

    def _table(self) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
        table = read_rows(self.path, self.part)
        target = self.target
        if target is None:
            raise InputError(
                f"--target is needed, the column of {self.path.name} to predict; it has "
                f"{', '.join(map(str, table.columns))}"
            )
        if self.columns is not None and target in self.columns:
            raise InputError(f"the target {target!r} cannot be an input too; leave it out of --column")
        wanted = self.columns or _image_columns(table)
        names = input_columns(table, target, wanted)
        labels = table[target]
        if labels.isna().any():
            row = int(np.flatnonzero(labels.isna().to_numpy())[0]) + 1
            raise DataError(
                f"column {target!r} must hold a value in every row, row {row} is empty; mend the table"
            )
        notes = [f"{self.path.name}: {len(table)} rows; inputs {', '.join(names)}; target {target}."]
        ignored = [c for c in table.columns if c not in names and c != target]
        if ignored:
            notes.append(f"Columns left out: {', '.join(map(str, ignored))}.")
        if len(names) == 1 and _holds_images(table[names[0]]):
            images = decode([(f"row {i + 1}", cell["bytes"]) for i, cell in enumerate(table[names[0]])])
            return images.pixels, labels.to_numpy(), (*notes, *images.notes)
        return numbers_in(table, names), labels.to_numpy(), tuple(notes)

    def _arrays(self) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                names = list(file.files)
                target, inputs = self._names_of(names)
                x, y = file[inputs], file[target]
        except (InputError, DataError):
            raise
        except Exception as error:  # zip, header and memory errors are of many classes
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{self.path} must hold plain arrays as numpy.savez writes them ({reason}); save them anew"
            ) from error
        if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
            raise DataError(
                f"{inputs} and {target} of {self.path.name} must have one entry for each sample, their shapes are "
                f"{x.shape} and {y.shape}; mend the file"
            )
        return x, y, (f"{self.path.name}: inputs {inputs} {x.shape}, target {target} {y.shape}.",)

    def _names_of(self, names: list[str]) -> tuple[str, str]:
        """Return (target, inputs): two arrays' names."""
        for name in (self.target, *(self.columns or ())):
            if name is not None and name not in names:
                raise InputError(
                    f"{self.path.name} has the arrays {', '.join(names)}, and not {name!r}; "
                    f"{suggestion(name, names)}correct --target or --column"
                )
        target = self.target or next((n for n in ("y", "targets", "labels") if n in names), None)
        others = [n for n in names if n != target]
        inputs = self.columns[0] if self.columns else others[0] if len(others) == 1 else None
        if target is None or inputs is None:
            missing = "--target" if target is None else "--column"
            raise InputError(
                f"{missing} is needed to tell inputs and target apart, {self.path.name} has the arrays "
                f"{', '.join(names)}; name it"
            )
        return target, inputs

    def _dataset(self, inputs: NDArray[Any], targets: NDArray[Any], notes: Sequence[str]) -> Dataset:
        import torch

        x, sentence = _as_inputs(inputs, self.standardise, self.path.name)
        y, outputs, said = as_targets(targets, self.task, self.target or "the class")
        if isinstance(x, np.ndarray):
            x = torch.from_numpy(np.ascontiguousarray(x))
        return one_part(self.path.name, x, y, outputs, sentence, (*notes, *said))


def one_part(
    name: str, inputs: Any, targets: Any, outputs: int, sentence: str, notes: Sequence[str]
) -> Dataset:
    """Return a data set whose one part serves as training and as test part."""
    whole = Split(inputs, targets)
    return Dataset(
        name=name,
        task="regression" if targets.is_floating_point() else "classification",
        n_outputs=outputs,
        input_shape=tuple(inputs.shape[1:]),
        train=whole,
        validation=None,
        test=whole,
        standardisation=sentence,
        notes=tuple(notes),
    )


def as_targets(values: NDArray[Any], task: Task | None, name: str) -> tuple[Any, int, tuple[str, ...]]:
    """Return targets as a tensor, the number of outputs that they need, and notes.

    Class numbers are int64 (n,), numbers float32 (n, d). See `OwnData` for which is which. Raises DataError for text
    in a regression, for one class, and for a class that is no whole number from 0.
    """
    import torch

    if values.dtype.kind == "O":
        kinds = {type(v) for v in values.tolist()}
        values = (
            np.array([str(v) for v in values.tolist()]) if kinds - {int, float} else values.astype(np.float64)
        )
    numeric = values.dtype.kind in "iuf"
    if numeric and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))[0]) + 1
        raise DataError(f"{name} must hold a finite number in every row, row {row} does not; mend the data")
    if task is None:
        task = "classification" if not numeric or _are_classes(values) else "regression"
    if task == "regression":
        if not numeric:
            raise DataError(
                f"a regression needs numbers, {name} holds {values.ravel()[0]!r}; say --task classification"
            )
        y = torch.from_numpy(values.astype(np.float32)).reshape(len(values), -1)
        return y, y.shape[1], ()
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"classes need one label for each sample, {name} has the shape {values.shape}; mend the data"
        )
    if not numeric:
        labels, numbers = np.unique(values, return_inverse=True)
        if len(labels) < 2:
            raise DataError(
                f"a classification needs two classes or more, {name} has {len(labels)}; add the others"
            )
        said = ", ".join(str(label) for label in labels[:20]) + (", …" if len(labels) > 20 else "")
        return (
            torch.from_numpy(numbers.astype(np.int64)),
            len(labels),
            (f"Classes, numbered from 0: {said}.",),
        )
    if not (values == np.floor(values)).all() or values.min() < 0:
        bad = next(v for v in values.tolist() if v != int(v) or v < 0)
        raise DataError(
            f"a class must be text or a whole number from 0, {name} holds {bad!r}; say --task regression"
        )
    outputs = max(int(values.max()) + 1, 2)
    present = len(np.unique(values))
    notes = () if present == outputs else (f"{present} of the classes 0 to {outputs - 1} occur.",)
    return torch.from_numpy(values.astype(np.int64)), outputs, notes


def _are_classes(values: NDArray[Any]) -> bool:
    """Return whether numbers are integers that are exactly 0 … K − 1."""
    if values.ndim != 1 or values.dtype.kind not in "iu":
        return False
    found = np.unique(values)
    return bool(len(found) > 1 and np.array_equal(found, np.arange(len(found))))


def _as_inputs(values: NDArray[Any], standardise: bool, name: str) -> tuple[Any, str]:
    """Return inputs as they are fed to a network, and the sentence that says what was done to them."""
    from sharpscope.data.pixels import pixel_scale

    if values.dtype == np.uint8 and values.ndim == 4 and values.shape[1] in (1, 3):
        scale = pixel_scale(values, 255, "standardised" if standardise else "unit")
        return scale.apply(values), scale.sentence.replace("training images used", "images")
    if values.dtype.kind not in "biuf":
        raise DataError(f"inputs must be numbers, those of {name} are of type {values.dtype}; convert them")
    if values.dtype == np.uint8:
        values, sentence = values.astype(np.float32) / 255, "inputs of eight bits / 255, in [0, 1]"
    elif values.dtype.kind in "iu" and not standardise:
        return values.astype(np.int64), "whole numbers as they stand"
    else:
        sentence = "inputs as they stand"
    if standardise:
        flat = values.astype(np.float64).reshape(len(values), -1)
        scaled = standardised(flat, np.arange(len(flat)))
        return scaled.reshape(values.shape).astype(
            np.float32
        ), "each input by its mean and standard deviation"
    return values.astype(np.float32), sentence


def _holds_images(column: pd.Series) -> bool:
    first = column.iloc[0]
    return isinstance(first, dict) and isinstance(first.get("bytes"), bytes)


def _image_columns(table: pd.DataFrame) -> tuple[str, ...] | None:
    """Return the one column of encoded images, in the hub's layout, or None."""
    found = tuple(str(c) for c in table.columns if _holds_images(table[c]))
    return found if len(found) == 1 else None


def is_path(data: str) -> bool:
    """Return whether what was given as data names a file or folder, by its look: ``x.csv``, ``a/b``, ``.``."""
    known = Path(data).suffix.lower() in (*READERS, ".npz")
    return known or "/" in data or "\\" in data or data in (".", "..") or Path(data).is_dir()
