"""Every output port of every shipped flowgraph can be listened to while it runs, by several and by late comers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from beamslot_runs import Runner, until

from beamslot.flowgraph import load
from beamslot.frame import Describe, Frame, StreamInfo
from beamslot.probe import AttachedRun
from beamslot.runtime import rundir
from beamslot.runtime.graph import Graph
from beamslot.runtime.taps import listen

FLOWGRAPHS = Path(__file__).parents[2] / "flowgraphs"

NEEDS = {
    "adapt.yml": ("torch", "onnxruntime"),
    "dual.yml": ("onnxruntime",),
    "ula_vae.yml": ("onnxruntime",),
    "umi.yml": ("sionna",),
}
"""Packages that a graph cannot do without."""

SMALL = {
    "adapt.yml": ("model={place}/adapted.safetensors", "figures.path={place}/adapted.jsonl"),
    "hil_gnuradio.yml": ("to_radio.bind=ipc://{place}/radio", "from_radio.connect=ipc://{place}/radio"),
    "record.yml": ("directory={place}/recording",),
    "replay.yml": ("directory={place}/recording",),
}
"""What is given beside the size: files of a test's own, and a wire in the place of a radio."""

SIZE = ("n_y=8", "n_z=24")
"""Antennas of every array that may be chosen; beams of 12, 8, 6 and 4 antennas fit, in groups of 4 columns."""

FIXED = {"hil_gnuradio.yml"}
"""Graphs whose array is as it is."""

SNAPSHOTS = {"adapt.yml", "ula_vae.yml"}
"""Graphs of which 40 slots make a frame."""

SELDOM = {"adapter.model", "adapter.figures"}
"""Ports that say something once in a while only."""


def small(name: str, place: Path) -> Graph:
    """Return a shipped graph with a small array, slowly paced, that goes on until it is stopped."""
    file = FLOWGRAPHS / name
    given = [text.format(place=place) for text in SMALL.get(name, ())]
    known = load(file, overrides=given)
    sizes = [
        f"{block}.{size}"
        for block, spec in known.blocks.items()
        for size in SIZE
        if name not in FIXED and size.split("=")[0] in spec.kind.model_fields and "source" in spec.kind.__module__
    ]
    pace = 0.1 if name == "replay.yml" else 1.0  # what record.yml left before it, stretched
    period = 1e-3 if name in SNAPSHOTS else 0.02
    return replace(load(file, overrides=[*given, *sizes]), slots=None, slot_period=period, pace=pace)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attached")


@pytest.fixture(scope="module")
def runs(place: Path) -> Iterator[Runner]:
    """Start graphs in processes of their own."""
    runner = Runner(place)
    yield runner
    runner.close()


def described(run: AttachedRun, port: str) -> tuple[StreamInfo, Any]:
    """Return what a new listener at a port is told first, and what comes after."""
    messages = listen(run.endpoints(port), port, 20.0)
    first = next(messages)
    assert isinstance(first, Describe), f"{port}: {first}"
    return first.info, messages


def hear(run: AttachedRun, port: str) -> None:
    """Listen to a port, and while that goes on a second time."""
    info, early = described(run, port)
    frame = None if port in SELDOM else next_frame(early)
    second, late = described(run, port)
    assert second == info
    if frame is not None:
        shapes = {array: value.shape for array, value in frame.arrays.items()}
        assert shapes == {array: info.shape(array, frame.count) for array in frame.arrays}
        assert next_frame(late).first >= frame.first
    for messages in (early, late):
        messages.close()


def next_frame(messages: Iterator[Any]) -> Frame:
    return next(message for message in messages if isinstance(message, Frame))


@pytest.mark.parametrize("name", sorted(path.name for path in FLOWGRAPHS.glob("*.yml")))
def test_every_port_tells_every_listener_first_what_it_is(name: str, place: Path, runs: Runner) -> None:
    for package in NEEDS.get(name, ()):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    run = runs.start(small(name, place))
    try:
        until(lambda: run.slots() > 2 or run.over, 60)
        assert not run.over, str(run.report())
        (card,) = [card for card in rundir.runs() if card["pid"] == run.pid]
        attached = AttachedRun(card)
        assert attached.ports
        with ThreadPoolExecutor(len(attached.ports)) as listeners:
            for _ in listeners.map(lambda port: hear(attached, port), attached.ports):
                pass
        attached.stop(now=True)
        assert run.report(30)["exit_code"] == 130, "stopped, and not failed"
    finally:
        if not run.over:
            run.signal(9)
