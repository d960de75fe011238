"""Residual nets of the 18-layer kind, with width, depth and stem by choice.

source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1; paper 000, section V
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from beamslot.dsp.estimate import refuse

Stem = Literal["imagenet", "small"]
"""How an image comes in: 7 x 7, stride 2 and max-pooling, a quarter of the size; or 3 x 3 at its full size."""

Norm = Literal["batch", "group"]
"""Statistics over the batch, as in the source; or of each image alone, with which a batch can be cut anywhere."""

Pool = Literal["average", "flatten"]
"""What the last layer sees of the last feature maps: their means, as in the source; or every entry."""

EIGHTEEN = (2, 2, 2, 2)
"""Blocks a stage of the net with 18 layers: two layers a block, the stem and the last one."""

_GROUPS = 4


class ResNet(nn.Module):
    """Images to numbers.

    inputs: channels of an image    outputs: numbers an image    size: (height, width) of an image
    width: channels of the first stage, doubled in every other    blocks: residual blocks a stage
    raises BadParam for sizes that are none
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        *,
        width: int = 64,
        blocks: Sequence[int] = EIGHTEEN,
        stem: Stem = "imagenet",
        norm: Norm = "batch",
        pool: Pool = "average",
    ) -> None:
        super().__init__()
        refuse(
            ("resnet.width", width, f"at least 1, a multiple of {_GROUPS} with norm 'group'", _fits(width, norm)),
            ("resnet.blocks", tuple(blocks), "stages of at least one block", bool(blocks) and min(blocks) >= 1),
            ("resnet.size", size, "at least 1 x 1", min(size) >= 1),
        )
        self.stem = _stem(inputs, width, stem, norm)
        stages, channels = list[nn.Module](), width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                stages.append(Residual(channels, width << stage, stride, norm))
                channels = width << stage
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1) if pool == "average" else nn.Identity()
        rows, columns = (_halved(length, len(blocks) - 1 + 2 * (stem == "imagenet")) for length in size)
        self.last = nn.Linear(channels * (1 if pool == "average" else rows * columns), outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Return (F, outputs) of images (F, inputs, height, width)."""
        return self.last(torch.flatten(self.pool(self.stages(self.stem(image))), 1))


class Residual(nn.Module):
    """Two convolutions beside a short cut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = _norm(outputs, norm)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = _norm(outputs, norm)
        self.short: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs, norm))

    def forward(self, image: Tensor) -> Tensor:
        """Return (F, outputs, height / stride, width / stride)."""
        inner = torch.relu(self.first_norm(self.first(image)))
        return torch.relu(self.second_norm(self.second(inner)) + self.short(image))


def parameters(net: nn.Module) -> int:
    """Return how many numbers a net has learned."""
    return sum(weight.numel() for weight in net.parameters())


def _stem(inputs: int, width: int, stem: Stem, norm: Norm) -> nn.Module:
    if stem == "small":
        return nn.Sequential(nn.Conv2d(inputs, width, 3, 1, 1, bias=False), _norm(width, norm), nn.ReLU())
    first = nn.Conv2d(inputs, width, 7, 2, 3, bias=False)
    return nn.Sequential(first, _norm(width, norm), nn.ReLU(), nn.MaxPool2d(3, 2, 1))


def _norm(channels: int, norm: Norm) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(_GROUPS, channels)


def _fits(width: int, norm: Norm) -> bool:
    return width >= 1 and (norm == "batch" or not width % _GROUPS)


def _halved(length: int, times: int) -> int:
    for _ in range(times):
        length = (length + 1) // 2
    return length
