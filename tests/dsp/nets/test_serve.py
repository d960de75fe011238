"""Nets as plain data, and the engines that run them: truth is a convolution written out, and each engine the other."""

import subprocess
import sys
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.nets import serve
from beamslot.dsp.nets.checkpoint import Checkpoint
from beamslot.dsp.nets.layers import Net, chain, fitting, initial, module, net_of, plain, shapes, weights_of
from beamslot.dsp.nets.serve import Engine, Served
from beamslot.errors import BadCheckpoint, BadParam, ShapeError

ENGINES = [engine for engine in get_args(Engine) if engine != "auto"]
by_engine = pytest.mark.parametrize("engine", ENGINES)

LINE = chain([3, 8, 8, 2], [5], ["circular"], [[1], [3]])
MIXED = net_of(
    [
        {"inputs": 2, "outputs": 6, "kernel": [3, 5], "padding": ["circular", "zero"], "activation": "silu"},
        {"inputs": 6, "outputs": 6, "kernel": [3, 1], "padding": ["circular", "circular"], "activation": "relu"},
        {
            "inputs": 6,
            "outputs": 6,
            "kernel": [1, 3],
            "padding": ["zero", "zero"],
            "dilation": [1, 2],
            "activation": "silu",
            "shortcut": 2,
        },
        {"inputs": 6, "outputs": 2, "kernel": [1, 1], "padding": ["zero", "zero"], "shortcut": 4},
    ]
)
NETS = {"line": (LINE, (16,)), "mixed": (MIXED, (9, 7))}
by_net = pytest.mark.parametrize("name", NETS)


def made(name: str, seed: int = 0) -> tuple[Checkpoint, NDArray[np.float32]]:
    net, grid = NETS[name]
    rng = np.random.default_rng(seed)
    weights = {key: value + 0.1 * rng.standard_normal(value.shape) for key, value in initial(net, rng).items()}
    features = rng.standard_normal((5, net[0].inputs, *grid)).astype(np.float32)
    return Checkpoint("test", {"net": plain(net)}, {k: v.astype(np.float32) for k, v in weights.items()}), features


def written_out(net: Net, weights: Any, features: NDArray[Any]) -> NDArray[np.float64]:
    """Return what the net makes, tap by tap, in double precision."""
    past = [features.astype(np.float64)]
    for index, layer in enumerate(net):
        weight, bias = weights[f"{index}.weight"].astype(np.float64), weights[f"{index}.bias"]
        total = np.zeros((len(features), layer.outputs, *features.shape[2:])) + bias.reshape(
            -1, *[1] * len(layer.kernel)
        )
        for tap in np.ndindex(*layer.kernel):
            moved = past[-1]
            for axis, at in enumerate(tap):
                shift = (at - layer.kernel[axis] // 2) * layer.steps[axis]
                size = moved.shape[axis + 2]
                read = np.arange(size) + shift
                moved = np.take(moved, read % size, axis=axis + 2)
                if layer.padding[axis] == "zero":
                    inside = ((read >= 0) & (read < size)).reshape(-1, *[1] * (len(layer.kernel) - 1 - axis))
                    moved = moved * inside
            total += np.einsum("oi,fi...->fo...", weight[(slice(None), slice(None), *tap)], moved)
        if layer.shortcut:
            total += past[-layer.shortcut]
        phi = {"none": lambda x: x, "relu": lambda x: np.maximum(x, 0), "silu": lambda x: x / (1 + np.exp(-x))}
        past.append(phi[layer.activation](total))
    return past[-1]


@by_net
@by_engine
def test_an_engine_computes_the_convolutions(name: str, engine: Engine) -> None:
    checkpoint, features = made(name)
    truth = written_out(NETS[name][0], checkpoint.weights, features)
    assert np.std(truth) > 0.05
    np.testing.assert_allclose(Served(checkpoint, engine).run(features), truth, atol=2e-5)


@by_net
def test_the_engines_agree(name: str) -> None:
    checkpoint, features = made(name, 1)
    first, second = (Served(checkpoint, engine).run(features) for engine in ENGINES)
    np.testing.assert_allclose(first, second, atol=1e-4)


@by_net
@by_engine
def test_frames_in_a_batch_are_frames_one_by_one(name: str, engine: Engine) -> None:
    checkpoint, features = made(name, 2)
    served = Served(checkpoint, engine)
    apart = np.concatenate([served.run(one[None]) for one in features])
    np.testing.assert_allclose(served.run(features), apart, atol=1e-5)


@by_engine
def test_one_net_serves_grids_of_any_size_and_turns_with_a_circular_axis(engine: Engine) -> None:
    checkpoint, _ = made("line")
    features = np.random.default_rng(3).standard_normal((2, 3, 50)).astype(np.float32)
    served = Served(checkpoint, engine)
    outputs = served.run(features)
    assert outputs.shape == (2, 2, 50)
    np.testing.assert_allclose(served.run(np.roll(features, 7, axis=2)), np.roll(outputs, 7, axis=2), atol=1e-5)


@by_net
def test_a_module_holds_the_weights_it_was_given_and_gives_them_back(name: str) -> None:
    checkpoint, _ = made(name)
    found = weights_of(module(NETS[name][0], checkpoint.weights))
    assert found.keys() == shapes(NETS[name][0]).keys()
    for key, value in found.items():
        np.testing.assert_array_equal(value, checkpoint.weights[key])


@by_net
def test_a_net_is_plain_data_and_back(name: str) -> None:
    assert net_of(plain(NETS[name][0])) == NETS[name][0]


def layer(**changes: Any) -> dict[str, Any]:
    return {"inputs": 2, "outputs": 2, "kernel": [3], "padding": ["circular"], **changes}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "net.*: Input should be a valid tuple"),
        ([], "at least 1 item"),
        ([layer(kernel=[2])], r"net\.0: kernel is \(2,\), wanted odd lengths"),
        ([layer(kernel=[3, 3])], r"net\.0: padding of 1 axes, wanted 2"),
        ([layer(padding=["mirror"])], r"net\.0\.padding\.0: Input should be 'circular' or 'zero'"),
        ([layer(outputs=10**9)], r"net\.0\.outputs: Input should be less than or equal to 1024"),
        ([layer(code="import os")], r"net\.0\.code: Extra inputs are not permitted"),
        ([layer(), layer(inputs=3)], r"net\.1: inputs is 3, wanted 2 of the layer before"),
        ([layer(shortcut=2)], r"net\.0: shortcut is 2, wanted at most 1"),
        ([layer(outputs=4, shortcut=1)], r"net\.0: a shortcut of 2 channels onto 4"),
    ],
)
def test_what_is_no_net_is_refused(data: Any, text: str) -> None:
    with pytest.raises(BadCheckpoint, match=text):
        net_of(data)


def test_weights_that_do_not_fit_are_refused_one_by_one() -> None:
    weights = dict(made("line")[0].weights)
    weights["1.weight"] = weights["1.weight"][:, :2]
    weights["9.bias"] = weights.pop("0.bias")
    with pytest.raises(BadCheckpoint) as refused:
        fitting(LINE, weights, "mine")
    assert str(refused.value).splitlines() == [
        "mine: weights without 0.bias",
        "mine: a weight 9.bias of no layer",
        "mine: 1.weight is (8, 2, 5), wanted (8, 8, 5)",
    ]


@pytest.mark.parametrize("shape", [(3, 16), (1, 2, 16), (1, 3, 16, 1), (1, 3, 0)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"features are .*, wanted \(F, 3, grid0\)"):
        Served(made("line")[0]).run(np.zeros(shape, np.float32))


def test_a_grid_that_is_shorter_than_what_a_layer_reads_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"the grid of the features is \(5,\), wanted at least \(6,\)"):
        Served(made("line")[0]).run(np.zeros((1, 3, 5), np.float32))


def test_without_an_engine_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with pytest.raises(BadParam, match=r"engine is 'auto'.*beamslot\[onnx\].*beamslot\[train\]"):
        serve.installed("auto")
    with pytest.raises(BadParam, match=r"engine is 'torch', and torch not installed; pip install 'beamslot\[train\]'"):
        serve.installed("torch")


def test_torch_serves_where_onnxruntime_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name.startswith("onnx") else name)
    assert serve.installed("auto") == "torch"


def test_onnxruntime_serves_without_torch() -> None:
    code = """
import sys
import numpy as np
sys.modules["torch"] = None
from beamslot.dsp.nets.checkpoint import Checkpoint
from beamslot.dsp.nets.layers import chain, initial, plain
from beamslot.dsp.nets.serve import Served
net = chain([1, 4, 1], [3], ["circular"])
served = Served(Checkpoint("k", {"net": plain(net)}, initial(net, np.random.default_rng(0))))
print(served.engine, served.run(np.ones((1, 1, 8))).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "onnxruntime (1, 1, 8)"
