"""What the convolutional networks ask of their inputs and of their widths."""

from __future__ import annotations

from sharpscope.errors import InputError


def image_shape(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """Return (channels, height, width), or raise InputError when the samples are no images.

    >>> image_shape((3, 32, 32), "VGG-11")
    (3, 32, 32)
    """
    if len(input_shape) != 3:
        raise InputError(
            f"{model} takes images (channels, height, width), received samples of shape {input_shape}; "
            "use a model for these inputs, such as mlp."
        )
    return input_shape[0], input_shape[1], input_shape[2]


def scaled(width: int, multiplier: float) -> int:
    """Return a number of channels times a width multiplier, rounded, at least 1.

    >>> scaled(64, 0.25), scaled(3, 0.1)
    (16, 1)
    """
    return max(1, round(width * multiplier))
