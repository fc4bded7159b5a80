"""VGG-11 (Simonyan and Zisserman, 2015) for small images: kaur2022, jastrzebski2018 (figures 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sharpscope.models.building_blocks import activation_layer, image_shape, scaled

if TYPE_CHECKING:
    from sharpscope.models.options import VGG11Options

# Numbers are convolutions of that many channels, 0 is max pooling: configuration A of the VGG paper.
_PLAN = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)


class VGG11(nn.Module):
    """Eight 3 × 3 convolutions 64 … 512 with five max poolings, then linear layers 512-512-n, no dropout.

    With ``batch_norm``, after every convolution. A pooling is left out where the image is already 1 pixel
    high or wide, so that images below 32 × 32 pass as well. On CIFAR-10 it has 9 750 922 parameters.

    >>> from sharpscope.models.options import VGG11Options
    >>> model = VGG11((3, 32, 32), 10, VGG11Options(width=0.25))
    >>> sum(p.numel() for p in model.parameters())
    611434
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, options: VGG11Options) -> None:
        super().__init__()
        channels, height, width = image_shape(input_shape, "VGG-11")
        layers: list[nn.Module] = []
        for step in _PLAN:
            if step == 0:
                if min(height, width) > 1:
                    layers.append(nn.MaxPool2d(2))
                    height, width = height // 2, width // 2
                continue
            after = scaled(step, options.width)
            layers.append(nn.Conv2d(channels, after, 3, padding=1))
            if options.batch_norm:
                layers.append(nn.BatchNorm2d(after))
            layers.append(activation_layer(options.activation))
            channels = after
        self.features = nn.Sequential(*layers)
        hidden = scaled(512, options.width)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * width, hidden),
            activation_layer(options.activation),
            nn.Linear(hidden, hidden),
            activation_layer(options.activation),
            nn.Linear(hidden, n_outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) for images (n, channels, height, width)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
