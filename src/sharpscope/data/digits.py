"""Digits: 1797 handwritten digits of 8 × 8 pixels in 0 … 16, embedded in scikit-learn.

Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sharpscope.data.dataset import Dataset, DatasetInfo, Graph, Split
from sharpscope.data.subsets import choose_rows, split_80_20

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sharpscope.data.config import DataConfig

IMAGES = 1797


def load_digits(config: DataConfig) -> Dataset:
    """Return the digits, inputs (n, 1, 8, 8), split 80/20 by ``subset_seed``.

    With ``neighbours`` the samples are the nodes of a graph instead, inputs (n,) their numbers: see `_linked`.
    """
    import torch
    from sklearn import datasets

    from sharpscope.data.pixels import pixel_scale

    bunch = datasets.load_digits()
    images = bunch.images.astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    labels = torch.from_numpy(bunch.target.astype(np.int64))  # (1797,)
    train, test = split_80_20("digits", len(images), config.drawn_by)
    rows = choose_rows(config.name, config.sizes, config.drawn_by, len(train), len(test))
    scale = pixel_scale(images[train[rows.train]], 16, config.pixels)

    def split(indices: NDArray[np.int64]) -> Split:
        chosen = torch.from_numpy(indices)
        inputs = scale.apply(images[indices]) if config.neighbours is None else chosen
        return Split(inputs, labels[chosen])

    graph = None
    if config.neighbours is not None:
        edges = torch.from_numpy(_linked(images, config.neighbours))
        graph = Graph(scale.apply(images).flatten(1), edges)
    return Dataset(
        name="digits",
        task="classification",
        n_outputs=10,
        input_shape=(1, 8, 8) if graph is None else (),
        train=split(train[rows.train]),
        validation=None if rows.validation is None else split(train[rows.validation]),
        test=split(test[rows.test]),
        whole_test=split(test) if config.final_test == "whole" else None,
        standardisation=scale.sentence,
        notes=rows.notes,
        graph=graph,
    )


def _linked(images: NDArray[np.uint8], neighbours: int) -> NDArray[np.int64]:
    """Return edges (2, m) that join every image to its nearest ones, each in both directions, sorted.

    Distances are squared and Euclidean, hence whole numbers; of equally distant images the first is nearer.
    """
    pixels = images.reshape(len(images), -1).astype(np.int64)  # (1797, 64)
    squares = (pixels**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * pixels @ pixels.T
    np.fill_diagonal(distances, np.iinfo(np.int64).max)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
    here = np.repeat(np.arange(len(images)), neighbours)
    both = np.concatenate([[here, nearest.ravel()], [nearest.ravel(), here]], axis=1)
    edges: NDArray[np.int64] = np.unique(both, axis=1)
    return edges


def describe_digits() -> DatasetInfo:
    """Return the description; the images come with scikit-learn and are always here."""
    return DatasetInfo(
        name="digits",
        title="Digits",
        task="classification",
        source="embedded in scikit-learn",
        citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI (1998)",
        licence="CC BY 4.0",
        unit="images",
        total=IMAGES,
        train=IMAGES * 4 // 5,
        validation=0,
        test=IMAGES - IMAGES * 4 // 5,
        official_split=False,
        standardisation="pixels / 16, by the mean and standard deviation of the training images used",
        where="scikit-learn",
    )
