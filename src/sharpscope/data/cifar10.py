"""CIFAR-10: 60 000 colour images of 32 × 32 pixels in ten classes (Krizhevsky, 2009)."""

from __future__ import annotations

from sharpscope.data.download import Origin
from sharpscope.data.image_files import ImageFormat
from sharpscope.data.image_set import ImageSet
from sharpscope.data.info import DatasetInfo

_HUB = "uoft-cs/cifar10"

CIFAR10 = ImageSet(
    info=DatasetInfo(
        name="cifar10",
        title="CIFAR-10",
        task="classification",
        source=f"https://huggingface.co/datasets/{_HUB}",
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
    train=Origin("train-00000-of-00001.parquet", "plain_text/train-00000-of-00001.parquet", hub=_HUB),
    test=Origin("test-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet", hub=_HUB),
)
