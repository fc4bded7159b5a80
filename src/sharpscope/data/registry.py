"""Loading a data set by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sharpscope.data.abalone import describe_abalone, load_abalone
from sharpscope.data.config import NAMES, TEXTS, DataConfig
from sharpscope.data.cora import describe_cora, load_cora
from sharpscope.data.digits import describe_digits, load_digits
from sharpscope.data.files import Access, Progress
from sharpscope.data.image_sets import CIFAR10, FASHION_MNIST
from sharpscope.data.python_text import describe_text, load_text
from sharpscope.data.table import load_table
from sharpscope.errors import InputError, suggestion

if TYPE_CHECKING:
    from pathlib import Path

    from sharpscope.data.dataset import Dataset, DatasetInfo


def load(
    config: DataConfig | str,
    *,
    data_dir: Path | str | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Return a data set, on the CPU, in float32.

    Files are looked for in ``data_dir``, else in the folder that ``SHARPSCOPE_DATA`` names, then in the
    cache; what is missing is downloaded into the cache unless ``download`` is False.
    ``progress(what, done, total)`` is called while downloading and decoding.

    Raises InputError for an unknown name or impossible sizes, and DataError when files are missing,
    truncated or foreign.

    >>> digits = load("digits")
    >>> digits.input_shape, len(digits.train), len(digits.test)
    ((1, 8, 8), 1437, 360)
    """
    if isinstance(config, str):
        if config not in NAMES:
            raise InputError(
                f"A data set must be one of {', '.join(NAMES)}, received {config!r}; "
                f"{suggestion(config, NAMES)}choose one of these."
            )
        config = DataConfig(name=config)
    dataset = _load(config, Access(data_dir, download, progress))
    if dataset.whole_test is None or len(dataset.whole_test) == len(dataset.test):
        return dataset
    note = f"The test loss and accuracy at a run's end are over all {len(dataset.whole_test)} test samples."
    return replace(dataset, notes=(*dataset.notes, note))


def _load(config: DataConfig, access: Access) -> Dataset:
    match config.name:
        case "digits":
            return load_digits(config)
        case "abalone":
            return load_abalone(config, access)
        case "cora":
            return load_cora(config, access)
        case "table":
            return load_table(config)
        case name if name in TEXTS:
            return load_text(config)
        case name:
            return _IMAGE_SETS[name].load(config, access)


def available(data_dir: Path | str | None = None) -> list[DatasetInfo]:
    """Return a description of every data set, with what the local files show.

    Cheap: metadata, hashes and one image of each file, nothing downloaded, torch not imported. A damaged file
    is reported in its line's ``problem``. Raises DataError when the data folder does not exist.

    >>> available()[0].sizes
    '1797 images, split 1437/360 by seed'
    """
    return [
        describe_digits(),
        FASHION_MNIST.describe(data_dir),
        CIFAR10.describe(data_dir),
        describe_abalone(data_dir),
        describe_cora(data_dir),
        *map(describe_text, TEXTS),
    ]


_IMAGE_SETS = {"fashion_mnist": FASHION_MNIST, "cifar10": CIFAR10}
