"""Fixup ResNet (Zhang, Dauphin and Ma, 2019): depth without normalisation; kaur2022 (figures 12 and 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from sharpscope.models.building_blocks import image_shape, scaled
from sharpscope.models.resnet import stage_length, zero_filled_shortcut

if TYPE_CHECKING:
    from sharpscope.models.options import FixupResNetOptions


class FixupResNet(nn.Module):
    """The CIFAR ResNet with scalar biases and multipliers in place of batch normalisation.

    Initial weights, which belong to the method: the last convolution of every block and the classifier are
    zero; the first convolution of a block is He normal times L^(−1/2) for L blocks, that is L^(−1/(2m−2)) with
    m = 2 layers in a branch; the stem is He normal; multipliers are 1 and biases 0. Shortcuts have no
    parameters. On CIFAR-10 depth 32 has 461 959 parameters. Any image size passes.

    >>> from sharpscope.models.options import FixupResNetOptions
    >>> model = FixupResNet((3, 32, 32), 10, FixupResNetOptions())
    >>> sum(p.numel() for p in model.parameters())
    461959
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, options: FixupResNetOptions) -> None:
        super().__init__()
        channels, _, _ = image_shape(input_shape, "Fixup ResNet")
        blocks_per_stage = stage_length(options.depth)
        width = scaled(16, options.width)
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.stem.weight, nonlinearity="relu")
        self.bias1 = _scalar(0.0)
        blocks: list[nn.Module] = []
        for stage, base in enumerate((16, 32, 64)):
            for index in range(blocks_per_stage):
                after = scaled(base, options.width)
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(FixupBlock(width, after, stride, n_blocks=3 * blocks_per_stage))
                width = after
        self.blocks = nn.Sequential(*blocks)
        self.bias2 = _scalar(0.0)
        self.classifier = nn.Linear(width, n_outputs)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) for images (n, channels, height, width)."""
        features: Tensor = self.blocks(relu(self.stem(images) + self.bias1))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)) + self.bias2)
        return logits


class FixupBlock(nn.Module):
    """Branch: bias – convolution – bias – ReLU – bias – convolution – multiplier – bias; then + shortcut, ReLU."""

    def __init__(self, before: int, after: int, stride: int, n_blocks: int) -> None:
        super().__init__()
        self.stride = stride
        self.bias1a, self.bias1b = _scalar(0.0), _scalar(0.0)
        self.bias2a, self.bias2b = _scalar(0.0), _scalar(0.0)
        self.scale = _scalar(1.0)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        with torch.no_grad():
            self.conv1.weight.mul_(n_blocks**-0.5)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (n, after, height / stride, width / stride) for inputs (n, before, height, width)."""
        branch = relu(self.conv1(inputs + self.bias1a) + self.bias1b)
        branch = self.conv2(branch + self.bias2a) * self.scale + self.bias2b
        return relu(branch + zero_filled_shortcut(inputs, self.conv2.out_channels, self.stride))


def _scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((1,), value))
