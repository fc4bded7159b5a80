"""ResNet for CIFAR (He et al., 2016, section 4.2): ResNet-56 of jastrzebski2018 (figures 2 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from sharpscope.errors import InputError
from sharpscope.models.building_blocks import image_shape, scaled

if TYPE_CHECKING:
    from sharpscope.models.options import ResNetOptions


class ResNet(nn.Module):
    """Three stages of (depth − 2) / 6 basic blocks of 16, 32 and 64 channels, batch normalisation throughout.

    Shortcuts have no parameters: where the shape changes they take every second pixel and fill the new
    channels with zeros (option A of the paper). On CIFAR-10 ResNet-56 has 853 018 parameters. Any image size
    passes: pooling over the whole image precedes the linear layer.

    >>> from sharpscope.models.options import ResNetOptions
    >>> model = ResNet((3, 32, 32), 10, ResNetOptions(depth=20))
    >>> sum(p.numel() for p in model.parameters())
    269722
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, options: ResNetOptions) -> None:
        super().__init__()
        channels, _, _ = image_shape(input_shape, "ResNet")
        blocks_per_stage = stage_length(options.depth)
        width = scaled(16, options.width)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        for stage, base in enumerate((16, 32, 64)):
            for index in range(blocks_per_stage):
                after = scaled(base, options.width)
                blocks.append(ResNetBlock(width, after, stride=2 if stage > 0 and index == 0 else 1))
                width = after
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) for images (n, channels, height, width)."""
        features: Tensor = self.blocks(self.stem(images))  # (n, 64 width, height / 4, width / 4)
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


class ResNetBlock(nn.Module):
    """Convolution – BN – ReLU – convolution – BN, plus the shortcut, then ReLU."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (n, after, height / stride, width / stride) for inputs (n, before, height, width)."""
        branch = self.bn2(self.conv2(relu(self.bn1(self.conv1(inputs)))))
        return relu(branch + zero_filled_shortcut(inputs, self.conv2.out_channels, self.stride))


def zero_filled_shortcut(inputs: Tensor, channels: int, stride: int) -> Tensor:
    """Return every ``stride``-th pixel of the inputs, with zero channels appended up to ``channels``."""
    return pad(inputs[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, channels - inputs.shape[1]))


def stage_length(depth: int) -> int:
    """Return the number of blocks in each of three stages, n for depth 6n + 2.

    >>> stage_length(56)
    9
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise InputError(
            f"The depth of a CIFAR ResNet must be 6n + 2 with n ≥ 1, received {depth}; "
            "use 8, 14, 20, 32, 44, 56 or 110, for example."
        )
    return blocks
