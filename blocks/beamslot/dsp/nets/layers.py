"""Convolutional nets as plain data: what can be trained by torch and served without it.

A net is a list of convolutions that keep the length of every axis, so that one net serves grids of any size. Layer l is

    x_{l+1} = phi_l(W_l * x_l + b_l + x_{l+1-s_l}),

with s_l = 0 for no shortcut, 1 for one around the layer itself, 2 for one around it and the layer before it.

| symbol | name | meaning |
|---|---|---|
| x_l | | (F, channels, *grid) float32, with one or two axes of grid |
| W_l, b_l | `{l}.weight`, `{l}.bias` | (outputs, inputs, *kernel), (outputs,) float32; * correlates, as in torch |
| phi_l | activation | none, relu, or silu x / (1 + exp(-x)) |
| s_l | shortcut | how many layers it goes around |
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from beamslot.errors import BadCheckpoint

if TYPE_CHECKING:
    import torch

Weights = dict[str, NDArray[np.float32]]
Width = Annotated[int, Field(ge=1, le=1024)]
Padding = Literal["circular", "zero"]


class Conv(BaseModel):
    """One convolution over one or two axes, of stride 1, padded to keep their lengths.

    inputs, outputs: channels    kernel: odd, an axis    padding: an axis; circular axes are periodic
    dilation: an axis, 1 where left out    activation, shortcut: the module's phi and s
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: Width
    outputs: Width
    kernel: Annotated[tuple[Width, ...], Field(min_length=1, max_length=2)]
    padding: tuple[Padding, ...]
    dilation: tuple[Width, ...] = ()
    activation: Literal["none", "relu", "silu"] = "none"
    shortcut: int = Field(0, ge=0)

    @property
    def steps(self) -> tuple[int, ...]:
        """The dilation of every axis."""
        return self.dilation or (1,) * len(self.kernel)

    @property
    def halo(self) -> tuple[int, ...]:
        """How far the kernel reaches to each side, an axis."""
        return tuple(step * (size // 2) for size, step in zip(self.kernel, self.steps, strict=True))


Net = tuple[Conv, ...]
_NET = TypeAdapter(Annotated[Net, Field(min_length=1, max_length=256)])


def net_of(plain: Any, where: str = "net") -> Net:
    """Return the net that plain data say, a list of mappings with the fields of `Conv`.

    raises BadCheckpoint saying at which layer what came and what was wanted
    """
    try:
        net = _NET.validate_python(plain)
    except ValidationError as error:
        lines = (f"{where}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadCheckpoint(*lines) from None
    problems = [f"{where}.{index}: {problem}" for index in range(len(net)) for problem in _misfits(net, index)]
    if problems:
        raise BadCheckpoint(*problems)
    return net


def plain(net: Net) -> list[dict[str, Any]]:
    """Return a net as plain data."""
    return [layer.model_dump(mode="json") for layer in net]


def _misfits(net: Net, index: int) -> list[str]:
    layer, axes = net[index], len(net[0].kernel)
    problems = []
    for name in ("kernel", "padding", "steps"):
        if len(getattr(layer, name)) != axes:
            problems.append(f"{name.replace('steps', 'dilation')} of {len(getattr(layer, name))} axes, wanted {axes}")
    if any(size % 2 == 0 for size in layer.kernel):
        problems.append(f"kernel is {layer.kernel}, wanted odd lengths")
    if index and net[index - 1].outputs != layer.inputs:
        problems.append(f"inputs is {layer.inputs}, wanted {net[index - 1].outputs} of the layer before")
    if layer.shortcut > index + 1:
        problems.append(f"shortcut is {layer.shortcut}, wanted at most {index + 1}")
    elif layer.shortcut and net[index + 1 - layer.shortcut].inputs != layer.outputs:
        problems.append(f"a shortcut of {net[index + 1 - layer.shortcut].inputs} channels onto {layer.outputs}")
    return problems


def chain(
    channels: Sequence[int],
    kernel: Sequence[int],
    padding: Sequence[Padding],
    dilations: Sequence[Sequence[int]] = (),
    activation: Literal["relu", "silu"] = "relu",
) -> Net:
    """Return a net of equal convolutions, a shortcut around each that keeps its width, and a last one of kernel 1.

    channels: of the features, after every layer, and of the outputs    dilations: a layer but the last, 1 if left out
    """
    *body, outputs = channels
    spread = [tuple(d) for d in dilations] or [(1,) * len(kernel)] * (len(body) - 1)
    layers = [
        {
            "inputs": before,
            "outputs": after,
            "kernel": tuple(kernel),
            "padding": tuple(padding),
            "dilation": dilation,
            "activation": activation,
            "shortcut": int(before == after),
        }
        for (before, after), dilation in zip(pairwise(body), spread, strict=True)
    ]
    last = {"inputs": body[-1], "outputs": outputs, "kernel": (1,) * len(kernel), "padding": tuple(padding)}
    return net_of([*layers, last])


def shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by name."""
    found: dict[str, tuple[int, ...]] = {}
    for index, layer in enumerate(net):
        found[f"{index}.weight"] = (layer.outputs, layer.inputs, *layer.kernel)
        found[f"{index}.bias"] = (layer.outputs,)
    return found


def fitting(net: Net, weights: Mapping[str, NDArray[Any]], where: str = "net") -> Weights:
    """Return the weights of a net as float32.

    raises BadCheckpoint where one is missing, of another shape, or of no layer
    """
    wanted = shapes(net)
    problems = [f"{where}: weights without {name}" for name in wanted if name not in weights]
    problems += [f"{where}: a weight {name} of no layer" for name in weights if name not in wanted]
    problems += [
        f"{where}: {name} is {weights[name].shape}, wanted {shape}"
        for name, shape in wanted.items()
        if name in weights and weights[name].shape != shape
    ]
    if problems:
        raise BadCheckpoint(*problems)
    return {name: np.ascontiguousarray(weights[name], np.float32) for name in wanted}


def initial(net: Net, rng: np.random.Generator) -> Weights:
    """Return weights to begin training with: normal, variance 2 over what a neuron reads, biases 0.

    Layers with a shortcut begin at half that deviation, the last layer at a tenth.

    source: He et al., ICCV 2015, eq. (10)
    """
    weights: Weights = {}
    for index, layer in enumerate(net):
        shape = shapes(net)[f"{index}.weight"]
        scale = 0.1 if index == len(net) - 1 else 0.5 if layer.shortcut else 1.0
        deviation = scale * np.sqrt(2 / np.prod(shape[1:]))
        weights[f"{index}.weight"] = (deviation * rng.standard_normal(shape)).astype(np.float32)
        weights[f"{index}.bias"] = np.zeros(layer.outputs, np.float32)
    return weights


def module(net: Net, weights: Mapping[str, NDArray[Any]]) -> "torch.nn.Module":
    """Return the net as a torch module that holds a copy of the weights; its state_dict has their names.

    It maps (F, channels, *grid) to (F, outputs, *grid), differentiably.
    """
    import torch

    class Layers(torch.nn.ModuleList):
        def forward(self, features: "torch.Tensor") -> "torch.Tensor":
            past = [features]
            for layer, convolution in zip(net, self, strict=True):
                moved = convolution(padded(past[-1], layer))
                if layer.shortcut:
                    moved = moved + past[-layer.shortcut]
                past.append(activate(moved, layer.activation))
            return past[-1]

    def padded(features: "torch.Tensor", layer: Conv) -> "torch.Tensor":
        for axis, (mode, halo) in enumerate(zip(layer.padding, layer.halo, strict=True)):
            if mode == "circular" and halo:
                features = wrapped(features, axis + 2, halo)
        return features

    def wrapped(features: "torch.Tensor", axis: int, halo: int) -> "torch.Tensor":
        size = features.shape[axis]
        index = torch.arange(-halo, size + halo, device=features.device) % size
        return features.index_select(axis, index)

    def activate(features: "torch.Tensor", name: str) -> "torch.Tensor":
        if name == "relu":
            return torch.relu(features)
        return torch.nn.functional.silu(features) if name == "silu" else features

    def convolution(layer: Conv) -> "torch.nn.Module":
        kind = torch.nn.Conv1d if len(layer.kernel) == 1 else torch.nn.Conv2d
        zeros: Any = tuple(
            0 if mode == "circular" else halo for mode, halo in zip(layer.padding, layer.halo, strict=True)
        )
        kernel: Any = layer.kernel
        return kind(layer.inputs, layer.outputs, kernel, padding=zeros, dilation=layer.steps)  # type: ignore[arg-type]

    built = Layers([convolution(layer) for layer in net])
    built.load_state_dict({name: torch.tensor(array) for name, array in fitting(net, weights).items()})
    return built


def weights_of(built: "torch.nn.Module") -> Weights:
    """Return a copy of the weights of a torch module, for a checkpoint."""
    return {name: value.detach().cpu().numpy().copy() for name, value in built.state_dict().items()}
