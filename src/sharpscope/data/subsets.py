"""Seeded splits and subsets: which rows of a data set a run uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sharpscope.errors import InputError
from sharpscope.seeding import numpy_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Sizes(NamedTuple):
    """How many samples of each part a run uses; None for all of them, and for no validation samples."""

    train: int | None = None
    validation: int | None = None
    test: int | None = None


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


def choose_rows(
    name: str, wanted: Sizes, seed: int, train: int, test: int, validation: int | None = None
) -> Rows:
    """Return the rows that a run uses of the data set ``name``, drawn by a seed from parts of the given sizes.

    ``validation`` is the size of an official validation part; without one the validation samples are the end
    of the training permutation (see `DataConfig`). Raises InputError when a part has too few rows.
    """

    def permutation(part: str, size: int) -> NDArray[np.int64]:
        return numpy_generator("data", name, part, seed).permutation(size)

    def cut(part: str, count: int | None, size: int) -> NDArray[np.int64]:
        if count is None:
            return np.arange(size)
        _enough(f"{part}_samples", count, size, name)
        return permutation(part, size)[:count]

    if validation is None:
        carved = wanted.validation or 0
        _enough("train_samples and validation_samples", (wanted.train or 1) + carved, train, name)
        whole = wanted.train is None and carved == 0
        order = np.arange(train) if whole else permutation("train", train)
        train_rows = order[: train - carved if wanted.train is None else wanted.train]
        validation_rows = order[train - carved :] if carved else None
    else:
        train_rows = cut("train", wanted.train, train)
        validation_rows = cut("validation", wanted.validation, validation)
    test_rows = cut("test", wanted.test, test)
    notes = tuple(
        f"{len(used)} of {size} {part} samples, a random subset with seed {seed}."
        for part, used, size in (("training", train_rows, train), ("test", test_rows, test))
        if len(used) < size
    )
    return Rows(train_rows, validation_rows, test_rows, notes)


def _enough(what: str, wanted: int, size: int, name: str) -> None:
    if wanted > size:
        raise InputError(f"{name} has {size} rows for {what}, received {wanted}; ask for at most {size}.")
