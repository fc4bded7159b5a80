"""ResNet-18 (He et al., 2016) for CIFAR: coldenhoff2022, with batch normalisation or without any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import relu

from sharpscope.models.building_blocks import image_shape, scaled

if TYPE_CHECKING:
    from sharpscope.models.options import ResNet18Options


class ResNet18(nn.Module):
    """Four stages of two basic blocks of 64, 128, 256 and 512 channels, 3 × 3 stem, no max pooling.

    Where the shape changes the shortcut is a 1 × 1 convolution with batch normalisation. With
    ``batch_norm=False`` the normalisations are taken out and nothing takes their place: the convolutions stay
    without biases. On CIFAR-10 it has 11 173 962 parameters, without normalisation 11 164 362. Any image size
    passes.

    >>> from sharpscope.models.options import ResNet18Options
    >>> model = ResNet18((3, 32, 32), 10, ResNet18Options(batch_norm=False, width=0.25))
    >>> any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    False
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, options: ResNet18Options) -> None:
        super().__init__()
        channels, _, _ = image_shape(input_shape, "ResNet-18")
        width = scaled(64, options.width)
        self.stem = _convolution(channels, width, 3, 1, options.batch_norm)
        blocks: list[nn.Module] = []
        for base, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            after = scaled(base, options.width)
            blocks.append(ResNet18Block(width, after, stride, options.batch_norm))
            blocks.append(ResNet18Block(after, after, 1, options.batch_norm))
            width = after
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) for images (n, channels, height, width)."""
        features: Tensor = self.blocks(relu(self.stem(images)))  # (n, 512 width, height / 8, width / 8)
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


class ResNet18Block(nn.Module):
    """Two 3 × 3 convolutions with ReLU between them, plus the shortcut, then ReLU."""

    def __init__(self, before: int, after: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = _convolution(before, after, 3, stride, batch_norm)
        self.conv2 = _convolution(after, after, 3, 1, batch_norm)
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(before, after, 1, stride, batch_norm)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (n, after, height / stride, width / stride) for inputs (n, before, height, width)."""
        return relu(self.conv2(relu(self.conv1(inputs))) + self.shortcut(inputs))


def _convolution(before: int, after: int, kernel: int, stride: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    ]
    if batch_norm:
        layers.append(nn.BatchNorm2d(after))
    return nn.Sequential(*layers)
