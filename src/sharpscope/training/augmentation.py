"""Augmentation of image batches on tensors: crops with padding, and mirror images, drawn anew for every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from sharpscope.errors import InputError
from sharpscope.seeding import generator
from sharpscope.serialization import StrictConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sharpscope.data import Dataset

Name = Literal["crop", "flip"]


class AugmentationConfig(StrictConfig):
    """What is done to the images of every training step, in the order of ``names``; evaluations leave images alone.

    - ``crop``: pad by ``padding`` pixels on every side and cut the image's own size out at a place drawn uniformly.
      The padding takes each channel's smallest value over the training images, which is black.
    - ``flip``: mirror left and right with probability ½.
    - ``seed``: by default the draws follow from the run's identifier, the epoch and the step. With a seed they follow
      from it, the epoch and the step alone, so that runs with one seed draw alike.

    >>> AugmentationConfig(names=("crop", "flip")).padding
    4
    """

    names: Annotated[tuple[Name, ...], Field(strict=False)]
    padding: PositiveInt = 4
    seed: NonNegativeInt | None = None

    @field_validator("names")
    @classmethod
    def _each_once(cls, names: tuple[Name, ...]) -> tuple[Name, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("an augmentation names crop, flip or both, each once")
        return names


class Augmentation:
    """A run's augmentation, ready to apply."""

    def __init__(self, config: AugmentationConfig, dataset: Dataset, run_id: str) -> None:
        """Raise `InputError` where the inputs are no images (n, channels, height, width)."""
        inputs = dataset.train.inputs
        if inputs.ndim != 4:
            raise InputError(
                f"augmentation is for images (n, channels, height, width); the inputs of {dataset.name} have the "
                f"shape {tuple(inputs.shape)}: leave augmentation out."
            )
        self._config = config
        self._key: tuple[str | int, ...] = (run_id,) if config.seed is None else ("seed", config.seed)
        self._black = inputs.amin((0, 2, 3))  # (channels,)

    def __call__(self, images: Tensor, epoch: int, step: int) -> Tensor:
        """Return the augmented images (n, channels, height, width) of a step; what is given stays as it is."""
        draws = generator("augmentation", *self._key, epoch, step)
        for name in self._config.names:
            images = self._cropped(images, draws) if name == "crop" else _flipped(images, draws)
        return images

    def _cropped(self, images: Tensor, draws: torch.Generator) -> Tensor:
        import torch

        n, channels, height, width = images.shape
        p = self._config.padding
        padded = self._black[:, None, None].repeat(n, 1, height + 2 * p, width + 2 * p)
        padded[:, :, p : p + height, p : p + width] = images
        top, left = torch.randint(0, 2 * p + 1, (2, n), generator=draws).to(images.device)
        rows = top[:, None] + torch.arange(height, device=images.device)  # (n, height)
        columns = left[:, None] + torch.arange(width, device=images.device)  # (n, width)
        sample = torch.arange(n, device=images.device)[:, None, None, None]
        channel = torch.arange(channels, device=images.device)[:, None, None]
        return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _flipped(images: Tensor, draws: torch.Generator) -> Tensor:
    import torch

    mirrored = torch.rand(len(images), generator=draws) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
