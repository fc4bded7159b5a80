"""From integer pixels to floating-point inputs, by a table computed once in double precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 4096  # images converted at a time: bounds the temporary memory


@dataclass(frozen=True)
class PixelScale:
    """x = (p / maximum − mean_c) / sd_c for a pixel p of channel c, or p / maximum alone.

    ``mean`` and ``sd`` have shape (channels,). A channel that never varies is divided by 1.
    """

    maximum: int
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    sentence: str

    def apply(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Return the inputs, float32, of images (n, channels, height, width)."""
        values = np.arange(256) / self.maximum
        table = ((values - self.mean[:, None]) / self.sd[:, None]).astype(np.float32)  # (channels, 256)
        inputs = np.empty(images.shape, dtype=np.float32)  # (n, channels, height, width)
        for start in range(0, len(images), _CHUNK):
            part = slice(start, start + _CHUNK)
            for channel, row in enumerate(table):
                inputs[part, channel] = row[images[part, channel]]
        return torch.from_numpy(inputs)


def pixel_scale(
    images: NDArray[np.uint8], maximum: int, pixels: Literal["standardised", "unit"]
) -> PixelScale:
    """Return the scale for training images (n, channels, height, width) with pixels in 0 … maximum.

    Means and standard deviations (population, per channel) come from exact integer histograms, so they do not
    depend on the order of the images, on chunks or on threads.

    >>> images = np.array([0, 16, 16, 0], dtype=np.uint8).reshape(4, 1, 1, 1)
    >>> pixel_scale(images, 16, "standardised").apply(images).flatten().tolist()
    [-1.0, 1.0, 1.0, -1.0]
    """
    channels = images.shape[1]
    if pixels == "unit":
        sentence = f"pixels / {maximum}, in [0, 1], without standardisation"
        return PixelScale(maximum, np.zeros(channels), np.ones(channels), sentence)
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), _CHUNK):
        for channel in range(channels):
            part = images[start : start + _CHUNK, channel].ravel()
            counts[channel] += np.bincount(part, minlength=256)
    values = np.arange(256) / maximum
    share = counts / counts.sum(axis=1, keepdims=True)  # (channels, 256)
    mean = share @ values
    sd = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    sd[sd == 0] = 1.0
    of = "mean and standard deviation" + (" of each channel" if channels > 1 else "")
    sentence = f"pixels / {maximum}, standardised by the {of} over the {len(images)} training images used"
    return PixelScale(maximum, mean, sd, sentence)
