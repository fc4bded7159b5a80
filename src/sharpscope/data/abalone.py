"""Abalone: 4177 shellfish, eight measurements, the number of rings to predict (Nash et al., UCI, 1995)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sharpscope.data.dataset import Dataset, DatasetInfo, Split
from sharpscope.data.files import Access, Origin, find, obtain
from sharpscope.data.subsets import choose_rows, split_80_20
from sharpscope.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sharpscope.data.config import DataConfig

ROWS = 4177
_SEXES = ("M", "F", "I")
_ORIGIN = Origin(
    "abalone.data",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/abalone/abalone.data",
    sha256="de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f",
)
_INFO = DatasetInfo(
    name="abalone",
    title="Abalone",
    task="regression",
    source="https://archive.ics.uci.edu/dataset/1/abalone",
    citation="Nash, Sellers, Talbot, Cawthorn and Ford, Abalone, UCI Machine Learning Repository (1995)",
    licence="CC BY 4.0",
    unit="rows",
    total=ROWS,
    train=ROWS * 4 // 5,
    validation=0,
    test=ROWS - ROWS * 4 // 5,
    official_split=False,
    standardisation="the ten inputs by their means and standard deviations over the training rows used",
)


def load_abalone(config: DataConfig, access: Access) -> Dataset:
    """Return Abalone, inputs (n, 10): sex one-hot (M, F, I) and seven measurements; targets (n, 1): rings.

    Raises DataError when the file is missing or is not the UCI's.
    """
    import torch

    table, notes = _read(obtain("abalone", _ORIGIN, access))  # (4177, 11)
    if config.first_row == "lost":
        table, notes = table[1:], (*notes, "The file's first row is left out, as if it were a header.")
    train, test = split_80_20("abalone", len(table), config.drawn_by)
    rows = choose_rows(config.name, config.sizes, config.drawn_by, len(train), len(test))
    used = table[train[rows.train]]
    mean, sd = used.mean(axis=0), used.std(axis=0)  # (11,)
    sd[sd == 0] = 1.0
    sentence = (
        f"the ten inputs by their means and standard deviations over the {len(used)} training rows used"
    )
    if config.targets == "standardised":
        sentence += ", the target likewise"
    else:
        mean[-1], sd[-1] = 0.0, 1.0
    scaled = ((table - mean) / sd).astype(np.float32)

    def split(indices: NDArray[np.int64]) -> Split:
        return Split(torch.from_numpy(scaled[indices, :-1]), torch.from_numpy(scaled[indices, -1:]))

    return Dataset(
        name="abalone",
        task="regression",
        n_outputs=1,
        input_shape=(10,),
        train=split(train[rows.train]),
        validation=None if rows.validation is None else split(train[rows.validation]),
        test=split(test[rows.test]),
        whole_test=split(test) if config.final_test == "whole" else None,
        standardisation=sentence,
        notes=(*notes, *rows.notes),
    )


def describe_abalone(data_dir: Path | str | None) -> DatasetInfo:
    """Return the description with what the local file shows; reads it whole, 192 KB."""
    path = find("abalone", _ORIGIN.file, data_dir)
    if path is None:
        return replace(_INFO, problem=f"not here yet; {_ORIGIN.remote} is fetched on first use")
    try:
        _, notes = _read(path)
    except DataError as error:
        return replace(_INFO, where=str(path.parent), problem=str(error))
    return replace(_INFO, where=str(path.parent), notes=notes)


def _read(path: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the table (4177, 11), one-hot sex first and rings last, and a note when the bytes differ."""
    content = path.read_bytes()
    rows: list[list[float]] = []
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        sex, *measured = line.strip().split(",")
        try:
            values = [float(value) for value in measured]
        except ValueError:
            values = []
        if sex not in _SEXES or len(values) != 8 or not np.isfinite(values).all():
            raise DataError(
                f"Every line of {path} must hold a sex (M, F or I) and eight numbers, received {line[:60]!r} in line "
                f"{number}; replace it by the UCI's abalone.data."
            )
        rows.append([float(sex == kind) for kind in _SEXES] + values)
    if len(rows) != ROWS:
        raise DataError(
            f"{path} must have {ROWS} rows, received {len(rows)}; replace it by the UCI's abalone.data."
        )
    same = hashlib.sha256(content).hexdigest() == _ORIGIN.sha256
    return np.array(rows), () if same else ("The file is not byte for byte the UCI's abalone.data.",)
