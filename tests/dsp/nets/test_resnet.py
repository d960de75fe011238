"""Residual nets: truth is the published count of parameters, and the layers as the source lists them."""

import pytest
import torch
from torch import nn

from beamslot.dsp.nets.resnet import ResNet, parameters
from beamslot.errors import BadParam

PUBLISHED = 11_689_512
"""Of ResNet-18 for 1000 classes of colour images."""


def test_the_net_of_eighteen_layers_has_the_published_number_of_parameters() -> None:
    assert parameters(ResNet(3, 1000, (224, 224))) == PUBLISHED


def test_it_has_eighteen_layers() -> None:
    net = ResNet(2, 3, (32, 32))
    weighted = [
        one for name, one in net.named_modules() if isinstance(one, nn.Conv2d | nn.Linear) and "short" not in name
    ]
    assert len(weighted) == 18


@pytest.mark.parametrize(("stem", "kernel"), [("imagenet", 49), ("small", 9)])
def test_parameters_grow_with_width_as_the_layers_say(stem: str, kernel: int) -> None:
    for width in (8, 12):
        count = kernel * 2 * width + 2 * width
        inputs = width
        for outputs in (width, 2 * width, 4 * width, 8 * width):
            count += 9 * (inputs * outputs + 3 * outputs**2) + 8 * outputs
            count += inputs * outputs + 2 * outputs if inputs != outputs else 0
            inputs = outputs
        assert parameters(ResNet(2, 5, (32, 32), width=width, stem=stem)) == count + 5 * (inputs + 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(32, 32), (40, 32), (5, 7), (1, 1)])
@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("pool", ["average", "flatten"])
def test_any_image_fits(size: tuple[int, int], stem: str, pool: str) -> None:
    net = ResNet(2, 6, size, width=4, stem=stem, pool=pool).eval()  # type: ignore[arg-type]
    assert net(torch.randn(3, 2, *size)).shape == (3, 6)


def test_with_statistics_of_each_image_alone_a_batch_can_be_cut() -> None:
    torch.manual_seed(0)
    net = ResNet(2, 3, (16, 16), width=8, norm="group")
    images = torch.randn(5, 2, 16, 16)
    torch.testing.assert_close(torch.cat([net(images[:2]), net(images[2:])]), net(images))
    batch = ResNet(2, 3, (16, 16), width=8)
    assert not torch.allclose(torch.cat([batch(images[:2]), batch(images[2:])]), batch(images))


def test_a_block_is_its_short_cut_where_its_convolutions_are_nothing() -> None:
    net = ResNet(2, 3, (8, 8), width=4, blocks=(1,), stem="small").eval()
    block = net.stages[0]
    nn.init.zeros_(block.second.weight)  # type: ignore[union-attr, arg-type]
    image = torch.rand(1, 4, 8, 8)
    torch.testing.assert_close(block(image), image)


def test_sizes_that_are_none_are_refused() -> None:
    with pytest.raises(BadParam, match=r"resnet.width is 0, wanted at least 1.*\nresnet.blocks is \(2, 0\)"):
        ResNet(2, 3, (8, 8), width=0, blocks=(2, 0))
    with pytest.raises(BadParam, match="a multiple of 4 with norm 'group'"):
        ResNet(2, 3, (8, 8), width=6, norm="group")
