"""Where every block of a graph goes on after some of its processes ended: a pure function of what all have recorded.

Read from the sinks upwards. A sink goes on where its record says. A block with state goes back to the newest recorded
place from which it still makes all that its consumers need; one without goes on where everything behind it is finished.
What a block needs of its inputs is what they must make again, and they have it: nothing is acknowledged to a producer
before it is recorded, so no producer has let go of what a record still asks for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beamslot.runtime.place import END, Standing

if TYPE_CHECKING:
    from beamslot.runtime.block import In
    from beamslot.runtime.graph import EdgeSpec, Graph

Records = Mapping[str, Sequence[Standing | None]]
"""By block, what each of its replicas recorded; None where it recorded nothing yet."""


@dataclass(frozen=True)
class Going:
    """Where a block goes on.

    place: index of the recorded place, None to begin from nothing
    out: by join (of a source: one), the first slot that is worked off again
    needed: by join, the first slot that must come again
    """

    place: int | None
    out: tuple[int, ...]
    needed: tuple[int, ...]


def joins_of(ports: "Sequence[In]") -> list[list[int]]:
    """Return which inputs are joined with each other: all of them; with a many port, each of its streams with the rest.

    ports: by input, the port that it ends at
    """
    many = [index for index, port in enumerate(ports) if port.many]
    ones = [index for index in range(len(ports)) if index not in many]
    if many:
        return [[*ones, index] for index in many]
    return [ones] if ones else []


def inputs_of(graph: "Graph", name: str) -> "list[EdgeSpec]":
    """Return the edges that end at a block, in the order in which its process counts them."""
    return [edge for edges in graph.inputs_of(name).values() for edge in edges]


def joined(graph: "Graph", name: str) -> list[list[int]]:
    """Return the joins of a block, as indices into `inputs_of`."""
    return joins_of([graph.blocks[name].kind.inputs[edge.target_port] for edge in inputs_of(graph, name)])


def resume(graph: "Graph", records: Records, over: Collection[str] = ()) -> dict[str, Going]:
    """Return where every block that is not over goes on.

    over: blocks whose processes have ended in order: they have finished everything
    """
    going: dict[str, Going] = {}
    for name in reversed(graph.order):
        if name not in over:
            going[name] = _place(graph, name, records.get(name, ()), going, over)
    return going


def begin_of(graph: "Graph", edge: "EdgeSpec", going: Mapping[str, Going]) -> int:
    """Return the first slot that an edge's consumer needs again; END where it is over."""
    if edge.target not in going:
        return END
    index = inputs_of(graph, edge.target).index(edge)
    needed = going[edge.target].needed
    return min(needed[number] for number, members in enumerate(joined(graph, edge.target)) if index in members)


def _place(
    graph: "Graph", name: str, records: Sequence[Standing | None], going: Mapping[str, Going], over: Collection[str]
) -> Going:
    edges = [edge for edge in graph.edges if edge.source == name]
    need = min((begin_of(graph, edge, going) for edge in edges if edge.lossless), default=END)
    joins = max(1, len(joined(graph, name)))
    known = [record for record in records if record is not None]
    # One that was cut off needs no slots, and yet a description: it is not over before what it gave is finished.
    wanted = not edges or any(edge.target in going and min(going[edge.target].out) < END for edge in edges)
    if known and not wanted and graph.inputs_of(name):  # whoever took its output has finished
        return Going(len(known[0].places) - 1, (END,) * joins, (END,) * joins)
    if len(records) > 1:
        done = min((record.places[0].out[0] if record else 0) for record in records)
        return Going(0, (done,), (done,))
    if not known:
        return Going(None, (0,) * joins, (0,) * joins)
    places = known[0].places
    if not graph.inputs_of(name) and not graph.blocks[name].kind.stateful and need < END:
        return Going(0, (need,), (need,))
    for index in range(len(places) - 1, 0, -1):
        if max(places[index].out) <= need:
            return Going(index, places[index].out, places[index].needed)
    return Going(0, places[0].out, places[0].needed)
