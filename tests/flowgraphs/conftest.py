"""A flowgraph written as text, loaded with the blocks of `own_blocks.py`; and what is said of one that is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from beamslot.errors import FlowgraphError
from beamslot.flowgraph import load
from beamslot.runtime.graph import Graph

OWN = Path(__file__).parent / "own_blocks.py"

Load = Callable[..., Graph]
Problems = Callable[..., list[str]]


@pytest.fixture
def graph_of(tmp_path: Path) -> Load:
    def load_text(text: str, *overrides: str) -> Graph:
        file = tmp_path / "g.yml"
        file.write_text(text)
        return load(file, overrides=overrides, blocks=[OWN])

    return load_text


@pytest.fixture
def problems(graph_of: Load, tmp_path: Path) -> Problems:
    """Return the problems of a flowgraph, the folder left out."""

    def refuse(text: str, *overrides: str) -> list[str]:
        with pytest.raises(FlowgraphError) as caught:
            graph_of(text, *overrides)
        return str(caught.value).replace(f"{tmp_path}/", "").split("\n")

    return refuse


@pytest.fixture
def parameters(graph_of: Load) -> Callable[..., dict[str, object]]:
    """Return the parameters of a lone source block, given as one line of YAML."""

    def read(line: str, variables: str = "{}", *overrides: str) -> dict[str, object]:
        text = f"variables: {variables}\nblocks:\n- {{name: source, id: source, parameters: {line}}}\n"
        return dict(graph_of(text, *overrides).blocks["source"].parameters)

    return read
