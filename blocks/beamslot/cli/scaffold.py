"""`beamslot new block`: begin a block of one's own, an estimator that works, with its test and a graph to judge it."""

import argparse
import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from string import Template

from beamslot.cli import options

BLOCK = Template('''\
"""$title: begin with the smallest channel that explains what was observed."""

import numpy as np
from beamslot import Block, In, Out, StreamInfo
from beamslot.ports import operator_of
from numpy.typing import NDArray
from pydantic import Field


def smallest_channel(
    rf: NDArray[np.complex64], weights: NDArray[np.complex64], loading: float
) -> NDArray[np.complex64]:
    """Return F^H (F F^H + loading I)^-1 y; with loading 0 the minimum-norm solution of F h = y.

    rf: (..., y, chain) complex [sqrt(W)]    weights: (y, chain, m), F by its structure    loading: [1]
    returns (..., y, chain * m) complex [sqrt(W)]
    """
    power = np.sum(np.abs(weights) ** 2, axis=-1, keepdims=True) + loading
    inverse = np.divide(weights.conj(), power, out=np.zeros_like(weights), where=power > 0)
    channel = np.einsum("ytm,...yt->...ytm", inverse, rf)
    return channel.reshape(*channel.shape[:-2], -1)


class $Name(Block):
    """Estimate the channel of every slot and user: say here what yours does."""

    rf = In("slot user y chain", np.complex64, unit="sqrt(W)")
    channel = Out("slot user y z", np.complex64, unit="sqrt(W)")

    loading: float = Field(0.0, ge=0, description="shrinks the estimate", json_schema_extra={"unit": "1"})

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Take the measurement operator from the stream: design and allocate here."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._weights = operator.weights
        return rf.replace(axes={"user": rf.axes["user"], "y": geometry.n_y, "z": geometry.n_z})

    def process(self, rf: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Estimate a batch of slots and users."""
        return smallest_channel(rf, self._weights, self.loading)

    # What depends on earlier slots has snapshot() and restore(state) too: "When things break" in the README.
''')

TEST = Template('''\
from pathlib import Path

import beamslot
import numpy as np
import pytest
from beamslot.frame import Array, Geometry, Operator, StreamInfo
from beamslot.runtime.testing import run_block

from $name import $Name

HERE = Path(__file__).parent
Y, CHAIN, M = 3, 2, 4


def complex_normal(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def stream(weights):
    arrays = {"rf": Array.of("slot user y chain", np.complex64, "sqrt(W)")}
    operator = Operator(weights, np.zeros(Y, np.int16), (-0.5, 0.0))
    return StreamInfo(arrays, {"user": 1, "y": Y, "chain": CHAIN}, geometry=Geometry(Y, CHAIN * M), operator=operator)


def dense(weights):
    """The operator as the matrix that it is: a row a chain, a column an antenna."""
    matrix = np.zeros((Y, CHAIN, Y, CHAIN, M), complex)
    for y in range(Y):
        for chain in range(CHAIN):
            matrix[y, chain, y, chain] = weights[y, chain]
    return matrix.reshape(Y * CHAIN, Y * CHAIN * M)


@pytest.mark.parametrize("burst", [1, 3, 8])
def test_the_estimate_is_the_pseudo_inverse_of_the_dense_operator(burst):
    rng = np.random.default_rng(1)
    weights, rf = complex_normal(rng, Y, CHAIN, M), complex_normal(rng, 8, 1, Y, CHAIN)
    channel = run_block($Name(), {"rf": rf}, infos={"rf": stream(weights)}, burst=burst)["channel"]
    wanted = rf.reshape(8, -1) @ np.linalg.pinv(dense(weights)).T
    np.testing.assert_allclose(channel.reshape(8, -1), wanted, rtol=1e-4, atol=1e-5)


def test_loading_shrinks_the_estimate():
    rng = np.random.default_rng(2)
    weights, rf = complex_normal(rng, Y, CHAIN, M), complex_normal(rng, 1, 1, Y, CHAIN)
    norms = []
    for loading in (0.0, 5.0):
        made = run_block($Name(loading=loading), {"rf": rf}, infos={"rf": stream(weights)})
        norms.append(np.linalg.norm(made["channel"]))
    assert norms[1] < norms[0]


def test_the_graph_runs_and_judges_the_block():
    result = beamslot.run(HERE / "$name.yml", blocks=[HERE / "$name.py"], slots=20)
    assert result.ok
    assert result.sinks["nmse"]["$name"]["draws"] == 20
''')

GRAPH = Template("""\
# beamslot run $name.yml --blocks $name.py -p snr_db=10
options:
  parameters:
    title: $name beside orthogonal matching pursuit and the Cramer-Rao bound
    slots: 200

variables:
  snr_db: 5

blocks:
  - name: source
    id: upa_source
    parameters: {n_y: 16, n_z: 24, paths: 3, snr_db: snr_db}
  - name: combiner
    id: combiner
    parameters: {antennas_per_chain: 6}
  - name: $name
    id: $name
    parameters:
      loading: 1 / 10 ** (snr_db / 10)
  - name: omp
    id: omp
  - name: nmse
    id: nmse_sink

connections:
  - [source, field, combiner, field]
  - [combiner, rf, $name, rf]
  - [combiner, rf, omp, rf]
  - [source, truth, nmse, truth]
  - [$name, channel, nmse, estimate]
  - [omp, estimate, nmse, estimate]
""")

RESERVED = ("source", "nmse")
"""What the graph calls its other blocks, where that is no block id."""


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs, "new", act, "begin a block of your own, with its test and a graph", "beamslot new block my_estimator"
    )
    parser.add_argument("what", choices=["block"], metavar="block", help="what to begin")
    parser.add_argument("name", metavar="NAME", help="its id: small letters, digits and underscores")
    parser.add_argument("--dir", type=Path, default=Path(), metavar="DIR", help="where the files go (here)")


def act(arguments: argparse.Namespace) -> int:
    """Write the three files and say what to do with them."""
    name = checked(arguments.name)
    directory: Path = arguments.dir
    files = {f"{name}.py": BLOCK, f"test_{name}.py": TEST, f"{name}.yml": GRAPH}
    write(directory, {file: template.substitute(names(name)) for file, template in files.items()})
    at = "" if directory == Path() else f"cd {directory} && "
    print(f"wrote {', '.join(str(directory / file) for file in files)}\n")
    print(f"  {at}beamslot run {name}.yml --blocks {name}.py\n  {at}python -m pytest test_{name}.py")
    return 0


def names(name: str) -> dict[str, str]:
    """Return the forms of a name: my_estimator, MyEstimator, My estimator."""
    words = name.split("_")
    return {"name": name, "Name": "".join(word.capitalize() for word in words), "title": " ".join(words).capitalize()}


def checked(name: str) -> str:
    """Return a name that a block, a module and a node of the graph can have; MyEstimator is my_estimator.

    raises BadParam saying what is wrong with it
    """
    from beamslot.catalogue import ids, snake_case
    from beamslot.errors import BadParam

    found = snake_case(name)
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", found) or keyword.iskeyword(found):
        raise BadParam(f"new block: got {name!r}; wanted a name such as my_estimator")
    if found in ids() or found in RESERVED:
        raise BadParam(f"new block: a block is called {found!r} already; wanted another name")
    if snake_case(names(found)["Name"]) != found:
        raise BadParam(f"new block: {found!r} does not come back from {names(found)['Name']!r}; wanted another name")
    if find_spec(found) is not None:
        raise BadParam(f"new block: a Python module is called {found!r} already; wanted another name")
    return found


def write(directory: Path, texts: dict[str, str]) -> None:
    """Write new files, all or none.

    raises FlowgraphError where one is there already or the directory cannot be written
    """
    from beamslot.errors import FlowgraphError

    there = [str(directory / file) for file in texts if (directory / file).exists()]
    if there:
        raise FlowgraphError(*(f"{file}: is there already; it is not overwritten" for file in there))
    with options.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (directory / file).write_text(text, encoding="utf-8")
