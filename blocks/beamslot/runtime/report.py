"""What a run says of itself: the accounts of its edges, latencies, what the sinks judged, and who waits for whom."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from beamslot.errors import describe_slots
from beamslot.runtime.graph import Graph
from beamslot.runtime.latency import Latency, summed

Status = Mapping[str, Any]

LOSSES = ("lost", "corrupt")
"""Gap reasons that mean that a lossless edge was not."""


def build(graph: Graph, statuses: Mapping[str, Status], seconds: float) -> dict[str, Any]:
    """Return the report as plain values, from the newest status of every block."""
    sources = [name for name in graph.blocks if not graph.inputs_of(name)]
    slots = max((statuses[name]["slots"] for name in sources if name in statuses), default=0)
    return {
        "graph": graph.name,
        "slots": slots,
        "seconds": round(seconds, 6),
        "slots_per_s": round(slots / seconds, 3) if seconds > 0 else 0.0,
        "late_slots": sum(status["late"] for status in statuses.values()),
        "pace": Latency(total(statuses, "behind")).summary(),
        "edges": _edges(graph, statuses),
        "blocks": {
            name: {
                "slots": status["slots"],
                **Latency(status["process_time"]).summary(),
                "cut_short": status["cut_short"],
                **({"faults": faults} if (faults := status.get("faults")) else {}),
                "busy_s": round(status["busy_ns"] * 1e-9, 6),
                "restarts": status["restarts"],
                "replicas": max(1, graph.blocks[name].replicas),
                "state": status["state"],
                "refused": status["refused"],
            }
            for name, status in ((name, statuses[name]) for name in graph.blocks if name in statuses)
        },
        "end_to_end": Latency(end_to_end(statuses)).summary(),
        "paths": paths(graph, statuses),
        "sinks": {
            name: statuses[name]["results"]
            for name, spec in graph.blocks.items()
            if spec.kind.judges() and name in statuses
        },
    }


def paths(graph: Graph, statuses: Mapping[str, Status]) -> list[dict[str, Any]]:
    """Return how long slots took on each path from a source to a sink: from their capture to the end of the last call.

    Paths that meet before the sink, or in one call of it, took the same: that of the last to come.
    returns path: block names; and the latency as `Latency` sums it up
    """
    return [{"path": path, **Latency(counts).summary()} for path, counts in path_counts(graph, statuses)]


def path_counts(graph: Graph, statuses: Mapping[str, Status]) -> list[tuple[list[str], Any]]:
    """Return the same as `Latency` counts it."""
    return [
        (path, counts)
        for name, status in statuses.items()
        for streams, counts in status.get("by_streams", ())
        for path in _leading(graph, name, streams)
    ]


def _leading(graph: Graph, name: str, streams: Sequence[str]) -> list[list[str]]:
    """Return every path that ends at a block and comes by one of these streams."""
    edges = [edge for edges in graph.inputs_of(name).values() for edge in edges]
    found: list[list[str]] = []
    for source in dict.fromkeys(edge.source for edge in edges if edge.stream in streams):
        before = [edge.stream for edges in graph.inputs_of(source).values() for edge in edges]
        found += [[*path, name] for path in (_leading(graph, source, before) if before else [[source]])]
    return found


def end_to_end(statuses: Mapping[str, Status]) -> list[tuple[int, int]]:
    """Return how long slots took from their capture to each sink, as `Latency` counts it."""
    return total(statuses, "end_to_end")


def total(statuses: Mapping[str, Status], key: str) -> list[tuple[int, int]]:
    """Return a latency over all blocks, as `Latency` counts it."""
    return summed(status.get(key, ()) for status in statuses.values())


def by_block(
    graph: Graph, processes: Sequence[tuple[Mapping[str, Status], Mapping[str, Status], int]]
) -> dict[str, dict[str, Any]]:
    """Return one status a block, put together from its processes.

    processes: of each, the status by block, what its earlier lives have counted, and how many those were
    """
    found: dict[str, dict[str, Any]] = {}
    for statuses, past, lives in processes:
        for name in {**past, **statuses}:
            status = statuses.get(name)
            lived = {**(together(past.get(name, {}), status) if status else past[name]), "restarts": max(0, lives)}
            found[name] = _beside(found[name], lived) if name in found else lived
    return {name: found[name] for name in graph.blocks if name in found}


def together(past: Status, status: Status) -> dict[str, Any]:
    """Return a status with what earlier lives of its process have counted."""
    if not past:
        return dict(status)
    return {
        **status,
        "slots": status["slots"] if not status["inputs"] else past["slots"] + status["slots"],
        "results": status["results"] or past["results"],
        "faults": _summed(past, status),
        "by_streams": _by_streams(past, status),
        **{key: past[key] + status[key] for key in ("late", "cut_short", "busy_ns", "refused", "errors")},
        **{key: _merged(past.get(key, ()), status.get(key, ())) for key in ("process_time", "end_to_end", "behind")},
    }


def _summed(one: Status, other: Status) -> dict[str, int]:
    """Return by fault the slots that it struck, of two statuses."""
    counted: list[Mapping[str, int]] = [status.get("faults", {}) for status in (one, other)]
    return dict(Counter(counted[0]) + Counter(counted[1]))


def _by_streams(past: Status, status: Status) -> list[Any]:
    """Return the latencies of a sink by the streams of its joins, with those of earlier lives."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for streams, counts in (*past.get("by_streams", ()), *status.get("by_streams", ())):
        found.setdefault(tuple(streams), []).append(counts)
    return [[list(streams), summed(several)] for streams, several in found.items()]


def _merged(one: Any, other: Any) -> list[tuple[int, int]]:
    return summed((one, other))


def _beside(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of a block that two processes share."""
    lists = [(a, b) for a, b in zip(one["edges"], other["edges"], strict=True)]
    return {
        **one,
        "state": one["state"] if one["state"] == "processing" else other["state"],
        "working_on": one["working_on"] or other["working_on"],
        "idle_ns": min(one["idle_ns"], other["idle_ns"]),
        "waits_for": one["waits_for"] or other["waits_for"],
        "faults": _summed(one, other),
        **{
            key: one[key] + other[key]
            for key in ("slots", "late", "cut_short", "busy_ns", "refused", "errors", "restarts")
        },
        **{key: _merged(one[key], other[key]) for key in ("process_time", "end_to_end")},
        "edges": [{**a, **{key: a[key] + b[key] for key in ("offered", "in_flight", "redelivered")}} for a, b in lists],
        "inputs": {edge: _added(known, other["inputs"][edge]) for edge, known in one["inputs"].items()},
    }


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    reasons = {*one["dropped"], *other["dropped"]}
    return {
        **{key: one[key] + other[key] for key in ("acknowledged", "unmatched")},
        "dropped": {reason: one["dropped"].get(reason, 0) + other["dropped"].get(reason, 0) for reason in reasons},
    }


NOTHING: Status = {"acknowledged": 0, "dropped": {}, "unmatched": 0}


def _edges(graph: Graph, statuses: Mapping[str, Status]) -> list[dict[str, Any]]:
    """Return the account of every edge: what was offered and is in flight says its producer, the rest its consumer."""
    offered = {account["edge"]: account for status in statuses.values() for account in status["edges"]}
    known = {edge: account for status in statuses.values() for edge, account in status["inputs"].items()}
    troubles = {edge: counts for status in statuses.values() for edge, counts in status.get("troubles", {}).items()}
    return [
        _account(offered[edge.name], known.get(edge.name, NOTHING))
        | ({"faults": troubles[edge.name]} if edge.name in troubles else {})
        for edge in graph.edges
        if edge.name in offered
    ]


def _account(producer: Mapping[str, Any], consumer: Mapping[str, Any]) -> dict[str, Any]:
    dropped = dict(consumer["dropped"])
    known = consumer["acknowledged"] + sum(dropped.values())
    offered = max(producer["offered"], known) if producer["done"] else producer["offered"]
    if producer["done"] and offered > known:
        dropped["done"] = offered - known
    return {
        "edge": producer["edge"],
        "policy": producer["policy"],
        "offered": offered,
        "acknowledged": consumer["acknowledged"],
        "dropped": dropped,
        "in_flight": producer["in_flight"],
        "redelivered": producer["redelivered"],
        "unmatched": consumer["unmatched"],
    }


def balance(edges: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with the accounts of a finished run: slots lost, still in flight, or not adding up."""
    problems: list[str] = []
    for edge in edges:
        name, dropped = edge["edge"], edge["dropped"]
        total = edge["acknowledged"] + sum(dropped.values()) + edge["in_flight"]
        if edge["offered"] != total:
            problems.append(f"{name}: offered {edge['offered']} slots, but {total} are accounted for")
        for reason in LOSSES:
            if dropped.get(reason):
                problems.append(f"{name}: {dropped[reason]} slots {reason} on a lossless edge")
        if edge["in_flight"]:
            problems.append(f"{name}: {edge['in_flight']} slots were never acknowledged")
    return problems


def silent(edges: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which blocks gave nothing at all, which as a rule is a forgotten return."""
    nothing = {e["edge"].split(".")[0]: e["offered"] for e in edges if e["dropped"].get("filtered", -1) == e["offered"]}
    return [f"{name}: process returned None for all {n} slots; is a return missing?" for name, n in nothing.items()]


def oddities(statuses: Mapping[str, Status]) -> list[str]:
    """Return how many messages of strangers were refused, slots cut short, and what failed on purpose.

    Bad messages are told when they come.
    """
    refused = {name: status["refused"] for name, status in statuses.items() if status["refused"]}
    short = {name: status for name, status in statuses.items() if status["cut_short"]}
    return [
        *(f"{name}: refused {count} messages of strangers" for name, count in refused.items()),
        *(
            f"{name}: {one['cut_short']} of {one['slots']} slots cut short by its deadline"
            for name, one in short.items()
        ),
        *(
            f"{name}: {kind} struck {count} of {one['slots']} slots"
            for name, one in statuses.items()
            for kind, count in one.get("faults", {}).items()
        ),
        *(
            f"{edge}: of its messages {', '.join(f'{n} {kind}' for kind, n in counts.items() if kind != 'healed')}; "
            f"asked for again {counts['healed']} times"
            for one in statuses.values()
            for edge, counts in one.get("troubles", {}).items()
        ),
    ]


def explain_stall(statuses: Mapping[str, Status], seconds: float) -> list[str]:
    """Return, block by block, who works on what, waits for whom, and who holds the window."""
    lines = [f"no progress for {seconds:.0f} s:"]
    for name, status in statuses.items():
        since = status["idle_ns"] * 1e-9
        if status["state"] == "processing":
            slots = describe_slots(range(*status["working_on"]))
            lines.append(f"  {name} has been working on {slots} for {since:.1f} s")
        elif status["state"] in {"blocked", "ended"}:
            what = "may not send" if status["state"] == "blocked" else "has sent all"
            lines += [
                f"  {name} {what}: {edge['in_flight']} slots from {status['oldest'][edge['edge']]} on are unfinished "
                f"behind {edge['edge']}"
                for edge in status["edges"]
                if edge["in_flight"]
            ]
        elif status["waits_for"]:
            lines.append(f"  {name} waits for {', '.join(status['waits_for'])}")
    return lines


class Progress:
    """Notices when a run stands still; where that is usual, it takes twice as long to speak again."""

    def __init__(self, patience: float = 2.0) -> None:
        self.patience = patience
        self._moved: tuple[int, ...] = ()
        self._since = time.monotonic()
        self._told = False

    def stalled(self, statuses: Mapping[str, Status]) -> float:
        """Return for how long nothing has moved [s], once a stall; 0 when things move or a source keeps time."""
        moved = tuple(
            value
            for status in statuses.values()
            for value in (status["slots"], *(known["acknowledged"] for known in status["inputs"].values()))
        )
        now = time.monotonic()
        if moved != self._moved or any(status["state"] == "pacing" for status in statuses.values()):
            self._moved, self._since, self._told = moved, now, False
        if self._told or now - self._since < self.patience:
            return 0.0
        self._told = True
        self.patience *= 2
        return now - self._since
