"""Seeded splits and subsets: which rows of a data set a run uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharpscope.errors import InputError
from sharpscope.seeding import numpy_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sharpscope.data.config import DataConfig


@dataclass(frozen=True)
class Rows:
    """The rows of the official parts that a run uses, and a sentence for each part that was cut.

    ``train`` and ``validation`` index the official training part (``validation`` the official validation
    part where there is one); ``test`` indexes the test part.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64] | None
    test: NDArray[np.int64]
    notes: tuple[str, ...]


def split_80_20(name: str, rows: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of a seeded 80/20 split: floor(0.8 n) for training, the rest for testing.

    >>> train, test = split_80_20("digits", 1797, seed=0)
    >>> len(train), len(test), len(set(train) | set(test))
    (1437, 360, 1797)
    """
    order = numpy_generator("data", name, "split", seed).permutation(rows)
    cut = rows * 4 // 5
    return order[:cut], order[cut:]


def choose_rows(config: DataConfig, train: int, test: int, validation: int | None = None) -> Rows:
    """Return the rows a configuration asks for, given the sizes of the official parts.

    ``validation`` is the size of an official validation part; without one the validation samples are the end
    of the training permutation (see `DataConfig`). Raises InputError when a part has too few rows.
    """
    notes: list[str] = []
    if validation is None:
        carved = config.validation_samples or 0
        _enough(
            "train_samples and validation_samples", (config.train_samples or 1) + carved, train, config.name
        )
        wanted = train - carved if config.train_samples is None else config.train_samples
        cut = config.train_samples is not None or carved > 0
        order = _permutation(config, "train", train) if cut else np.arange(train)
        train_rows = order[:wanted]
        validation_rows = order[train - carved :] if carved else None
    else:
        train_rows = _part(config, "train", config.train_samples, train)
        validation_rows = _part(config, "validation", config.validation_samples, validation)
    test_rows = _part(config, "test", config.test_samples, test)
    for part, used, size in (("training", train_rows, train), ("test", test_rows, test)):
        if len(used) < size:
            notes.append(
                f"{len(used)} of {size} {part} samples, a random subset with seed {config.subset_seed}."
            )
    return Rows(train_rows, validation_rows, test_rows, tuple(notes))


def _part(config: DataConfig, part: str, wanted: int | None, size: int) -> NDArray[np.int64]:
    if wanted is None:
        return np.arange(size)
    _enough(f"{part}_samples", wanted, size, config.name)
    return _permutation(config, part, size)[:wanted]


def _permutation(config: DataConfig, part: str, size: int) -> NDArray[np.int64]:
    return numpy_generator("data", config.name, part, config.subset_seed).permutation(size)


def _enough(what: str, wanted: int, size: int, name: str) -> None:
    if wanted > size:
        raise InputError(f"{name} has {size} rows for {what}, received {wanted}; ask for at most {size}.")
