"""Fashion-MNIST and CIFAR-10: images in two Parquet files, one for training and one for testing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sharpscope.data.dataset import Dataset, DatasetInfo, Split
from sharpscope.data.files import Access, Origin, find, obtain
from sharpscope.data.image_files import ImageFormat, probe_images, read_images
from sharpscope.data.subsets import choose_rows
from sharpscope.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sharpscope.data.config import DataConfig

_FASHION_MNIST_HUB = "zalando-datasets/fashion_mnist"
_CIFAR10_HUB = "uoft-cs/cifar10"


@dataclass(frozen=True)
class ImageSet:
    """The files of an image data set, their format and their description."""

    info: DatasetInfo
    layout: ImageFormat
    train: Origin
    test: Origin

    def load(self, config: DataConfig, access: Access) -> Dataset:
        """Return the data set, inputs (n, channels, side, side); raises DataError for unusable files."""
        import torch

        from sharpscope.data.pixels import pixel_scale

        rows = choose_rows(config.name, config.sizes, config.drawn_by, self.info.train, self.info.test)
        # Both files are sought before the long decoding starts.
        paths = [obtain(self.info.name, origin, access) for origin in (self.train, self.test)]
        train = read_images(paths[0], self.info.train, self.layout, access.progress)
        test = read_images(paths[1], self.info.test, self.layout, access.progress)
        scale = pixel_scale(train.images[rows.train], 255, config.pixels)

        def split(images: NDArray[np.uint8], labels: NDArray[np.int64], indices: NDArray[np.int64]) -> Split:
            return Split(scale.apply(images[indices]), torch.from_numpy(labels[indices]))

        jpeg, total = train.jpeg + test.jpeg, len(train.images) + len(test.images)
        return Dataset(
            name=self.info.name,
            task="classification",
            n_outputs=self.layout.classes,
            input_shape=(self.layout.channels, self.layout.side, self.layout.side),
            train=split(train.images, train.labels, rows.train),
            validation=None
            if rows.validation is None
            else split(train.images, train.labels, rows.validation),
            test=split(test.images, test.labels, rows.test),
            whole_test=split(test.images, test.labels, np.arange(len(test.images)))
            if config.final_test == "whole"
            else None,
            standardisation=scale.sentence,
            notes=(*((_jpeg_note(f"{jpeg} of {total}"),) if jpeg else ()), *rows.notes),
        )

    def describe(self, data_dir: Path | str | None) -> DatasetInfo:
        """Return the description with what the local files show; reads metadata and one image of each file."""
        name = self.info.name
        paths = [find(name, origin.file, data_dir) for origin in (self.train, self.test)]
        if paths[0] is None or paths[1] is None:
            return replace(
                self.info, problem=f"not here yet; the hub's {self.train.hub} is fetched on first use"
            )
        where = str(paths[0].parent)
        try:
            jpeg = [
                probe_images(path, rows, self.layout)
                for path, rows in ((paths[0], self.info.train), (paths[1], self.info.test))
            ]
        except DataError as error:
            return replace(self.info, where=where, problem=str(error))
        return replace(self.info, where=where, notes=(_jpeg_note("The"),) if any(jpeg) else ())


def _jpeg_note(which: str) -> str:
    return f"{which} images here are JPEG, which loses detail: numbers may differ from those on the original pixels."


FASHION_MNIST = ImageSet(
    info=DatasetInfo(
        name="fashion_mnist",
        title="Fashion-MNIST",
        task="classification",
        source=f"https://huggingface.co/datasets/{_FASHION_MNIST_HUB}",
        citation="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv:1708.07747 (2017)",
        licence="MIT",
        unit="images",
        total=70_000,
        train=60_000,
        validation=0,
        test=10_000,
        official_split=True,
        standardisation="pixels / 255, by the mean and standard deviation of the training images used",
    ),
    layout=ImageFormat("fashion_mnist", "image", channels=1, side=28, classes=10),
    train=Origin(
        "train-00000-of-00001.parquet",
        "fashion_mnist/train-00000-of-00001.parquet",
        hub=_FASHION_MNIST_HUB,
    ),
    test=Origin(
        "test-00000-of-00001.parquet",
        "fashion_mnist/test-00000-of-00001.parquet",
        hub=_FASHION_MNIST_HUB,
    ),
)
"""70 000 grey images of 28 × 28 pixels, ten kinds of clothing (Xiao, Rasul and Vollgraf, 2017)."""

CIFAR10 = ImageSet(
    info=DatasetInfo(
        name="cifar10",
        title="CIFAR-10",
        task="classification",
        source=f"https://huggingface.co/datasets/{_CIFAR10_HUB}",
        citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
        licence="not stated by the authors",
        unit="images",
        total=60_000,
        train=50_000,
        validation=0,
        test=10_000,
        official_split=True,
        standardisation="pixels / 255, by each channel's mean and standard deviation over the training images used",
    ),
    layout=ImageFormat("cifar10", "img", channels=3, side=32, classes=10),
    train=Origin("train-00000-of-00001.parquet", "plain_text/train-00000-of-00001.parquet", hub=_CIFAR10_HUB),
    test=Origin("test-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet", hub=_CIFAR10_HUB),
)
"""60 000 colour images of 32 × 32 pixels in ten classes (Krizhevsky, 2009)."""
