"""LeNet-5 as hammoud2023 trains it (H2): batch normalisation after both convolutions, dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sharpscope.errors import InputError
from sharpscope.models.building_blocks import image_shape

if TYPE_CHECKING:
    from sharpscope.models.options import LeNet5Options


class LeNet5(nn.Module):
    """Two blocks of 5 × 5 convolution (12, 32) – batch normalisation – ReLU – max pooling, then 256-128-n.

    Dropout follows both hidden linear layers. On 28 × 28 images of one channel with ten classes it has
    175 546 parameters. Images must be at least 16 pixels high and wide, with ``padding`` 2 at least 4.

    >>> from sharpscope.models.options import LeNet5Options
    >>> model = LeNet5((1, 28, 28), 10, LeNet5Options())
    >>> sum(p.numel() for p in model.parameters())
    175546
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, options: LeNet5Options) -> None:
        super().__init__()
        channels, height, width = image_shape(input_shape, "LeNet-5")
        shrink = 2 * options.padding - 4
        sides = [((side + shrink) // 2 + shrink) // 2 for side in (height, width)]
        if min(sides) < 1:
            smallest = {0: 16, 1: 10, 2: 4}[options.padding]
            raise InputError(
                f"LeNet-5 with padding {options.padding} needs images of at least {smallest} × {smallest} pixels, "
                f"received {height} × {width}; set the option padding to 2 or use mlp."
            )
        self.features = nn.Sequential(
            nn.Conv2d(channels, 12, 5, padding=options.padding),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 32, 5, padding=options.padding),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(32 * sides[0] * sides[1], 256),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(128, n_outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) for images (n, channels, height, width)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
