"""Fashion-MNIST: 70 000 grey images of 28 × 28 pixels, ten kinds of clothing (Xiao, Rasul and Vollgraf, 2017)."""

from __future__ import annotations

from sharpscope.data.download import Origin
from sharpscope.data.image_files import ImageFormat
from sharpscope.data.image_set import ImageSet
from sharpscope.data.info import DatasetInfo

_HUB = "zalando-datasets/fashion_mnist"

FASHION_MNIST = ImageSet(
    info=DatasetInfo(
        name="fashion_mnist",
        title="Fashion-MNIST",
        task="classification",
        source=f"https://huggingface.co/datasets/{_HUB}",
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
    train=Origin("train-00000-of-00001.parquet", "fashion_mnist/train-00000-of-00001.parquet", hub=_HUB),
    test=Origin("test-00000-of-00001.parquet", "fashion_mnist/test-00000-of-00001.parquet", hub=_HUB),
)
