"""Nets at work: onnxruntime where it is installed, torch where not; the same numbers to 1e-4."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.nets.checkpoint import Checkpoint
from beamslot.dsp.nets.layers import Conv, Net, Weights, fitting, module, net_of
from beamslot.errors import BadParam, ShapeError

Engine = Literal["auto", "onnxruntime", "torch"]
Function = Callable[[NDArray[np.float32]], NDArray[np.float32]]

OPSET, IR = 19, 9
"""Of the models that are built here: the first with circular padding, and an IR that goes with it."""

NEEDS = {"onnxruntime": ("onnxruntime", "onnx"), "torch": ("torch",)}
"""What an engine imports."""
EXTRAS = {"onnxruntime": "onnx", "torch": "train"}
"""What brings it."""


class Served:
    """The net of a checkpoint, ready to run; its architecture has it under "net".

    engine: "auto" for the first of onnxruntime and torch that is installed
    threads: how many a run may use; torch knows one number for the whole process
    raises BadParam where the engine is not installed, BadCheckpoint where net and weights do not fit
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine = "auto", threads: int = 1) -> None:
        self.engine = installed(engine)
        self.net = net_of(checkpoint.architecture.get("net"), f"{checkpoint.kind}.net")
        weights = fitting(self.net, checkpoint.weights, checkpoint.kind)
        reach = [wraps(layer) for layer in self.net]
        self._wraps = tuple(max(axis) for axis in zip(*reach, strict=True))
        self._function = (_onnx_function if self.engine == "onnxruntime" else _torch_function)(
            self.net, weights, threads
        )

    def run(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return the outputs of the net.

        features: (F, channels, *grid), of any F and any grid
        returns (F, outputs, *grid) float32
        raises ShapeError
        """
        channels, axes = self.net[0].inputs, len(self.net[0].kernel)
        if features.ndim != axes + 2 or features.shape[1] != channels or min(features.shape[2:]) < 1:
            grid = ", ".join(f"grid{axis}" for axis in range(axes))
            raise ShapeError(f"features are {features.shape}, wanted (F, {channels}, {grid})")
        if any(size < halo for size, halo in zip(features.shape[2:], self._wraps, strict=True)):
            raise ShapeError(f"the grid of the features is {features.shape[2:]}, wanted at least {self._wraps}")
        return self._function(np.ascontiguousarray(features, np.float32))


def installed(engine: Engine) -> Literal["onnxruntime", "torch"]:
    """Return the engine to use.

    raises BadParam, naming the extras, where it is not there
    """
    wanted = NEEDS if engine == "auto" else {engine: NEEDS[engine]}
    for name, packages in wanted.items():
        if all(find_spec(package) for package in packages):
            return name  # type: ignore[return-value]
    extras = " or ".join(f"pip install 'beamslot[{EXTRAS[name]}]'" for name in wanted)
    raise BadParam(f"engine is {engine!r}, and {' and '.join(wanted)} not installed; {extras}")


def onnx_model(net: Net, weights: Mapping[str, NDArray[Any]]) -> Any:
    """Return the net as an ONNX model, inputs `features` and outputs `outputs` as `Served.run` has them."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: dict[str, NDArray[Any]] = {**fitting(net, weights)}

    def add(kind: str, inputs: list[str], **options: Any) -> str:
        name = f"{kind.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **options))
        return name

    past = ["features"]
    for index, layer in enumerate(net):
        zeros = [halo - wrapped for halo, wrapped in zip(layer.halo, wraps(layer), strict=True)]
        read = past[-1]
        if any(wraps(layer)):
            constants[f"{index}.wraps"] = np.array([0, 0, *wraps(layer)] * 2, np.int64)
            read = add("Pad", [read, f"{index}.wraps"], mode="wrap")
        options = {"kernel_shape": layer.kernel, "dilations": layer.steps, "pads": zeros * 2}
        made = add("Conv", [read, f"{index}.weight", f"{index}.bias"], **options)
        if layer.shortcut:
            made = add("Add", [made, past[-layer.shortcut]])
        if layer.activation == "relu":
            made = add("Relu", [made])
        elif layer.activation == "silu":
            made = add("Mul", [made, add("Sigmoid", [made])])
        past.append(made)
    nodes[-1].output[0] = "outputs"
    grid = [f"grid{axis}" for axis in range(len(net[0].kernel))]
    graph = helper.make_graph(
        nodes,
        "beamslot",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["frames", net[0].inputs, *grid])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["frames", net[-1].outputs, *grid])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def wraps(layer: Conv) -> tuple[int, ...]:
    """Return by how much a layer continues its circular axes to each side, 0 on others."""
    return tuple(halo if mode == "circular" else 0 for mode, halo in zip(layer.padding, layer.halo, strict=True))


def _onnx_function(net: Net, weights: Weights, threads: int) -> Function:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    model = onnx_model(net, weights).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def function(features: NDArray[np.float32]) -> NDArray[np.float32]:
        return session.run(["outputs"], {"features": features})[0]  # type: ignore[return-value]

    return function


def _torch_function(net: Net, weights: Weights, threads: int) -> Function:
    import torch

    torch.set_num_threads(threads)
    built = module(net, weights).eval()

    def function(features: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return built(torch.from_numpy(features)).numpy()

    return function
