"""`beamslot echo`: listen to a port of a running graph and print what passes."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from beamslot.cli import options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from beamslot.frame import Message, StreamInfo


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs, "echo", _act, "print what passes a port of a running graph", "beamslot echo combiner.rf -n 3"
    )
    parser.add_argument("port", metavar="[RUN:]BLOCK.PORT", help="which port; of which run (name or pid): the newest")
    parser.add_argument("-n", dest="most", type=options.positive, metavar="N", help="end after N frames")
    parser.add_argument("--values", action="store_true", help="print the values, not only their size")
    options.add_json(parser, "print one JSON object a message")


def _act(arguments: argparse.Namespace) -> int:
    from beamslot import probe
    from beamslot.frame import Describe, Eos, Frame
    from beamslot.runtime.taps import listen

    run, stream = probe.parse(arguments.port, "echo")
    info: StreamInfo | None = None
    frames = 0
    for message in listen(run.endpoints(stream), stream):
        if isinstance(message, Describe):
            if message.info == info:  # a tap repeats its description for those who come late
                continue
            info = message.info
        said = plain(message, info, values=arguments.values)
        options.print_json(said) if arguments.json else print(text(said), flush=True)
        frames += isinstance(message, Frame)
        if isinstance(message, Eos) or frames == arguments.most:
            break
    return 0


def plain(message: "Message", info: "StreamInfo | None", *, values: bool = False) -> dict[str, Any]:
    """Return a message as plain values: what it is, its slots, and the size (or values) of its arrays."""
    from beamslot.frame import Describe, Eos, Frame, Gap

    if isinstance(message, Frame):
        arrays = {name: _array(name, array, info, values) for name, array in message.arrays.items()}
        tags = {"tags": dict(message.tags)} if message.tags else {}
        return {"kind": "data", **_slots(message), **tags, "arrays": arrays}
    if isinstance(message, Gap):
        return {"kind": "gap", **_slots(message), "reason": message.reason}
    if isinstance(message, Eos):
        return {"kind": "eos", "first": message.first, "ok": message.ok, "reason": message.reason}
    if isinstance(message, Describe):
        described = message.info
        return {
            "kind": "describe",
            "stream": message.stream,
            "arrays": {
                name: {"axes": list(spec.axes), "dtype": str(spec.dtype), "unit": spec.unit}
                for name, spec in described.arrays.items()
            },
            "axes": dict(described.axes),
            "slot_period": described.slot_period,
            "operator": described.operator.hash if described.operator else None,
        }
    return {"kind": type(message).__name__.lower()}


def _slots(message: Any) -> dict[str, int]:
    return {"first": message.first, "count": message.count}


def _array(name: str, array: "NDArray[Any]", info: "StreamInfo | None", values: bool) -> dict[str, Any]:
    axes = list(info.arrays[name].axes) if info is not None and name in info.arrays else []
    said: dict[str, Any] = {"axes": axes, "shape": list(array.shape), "dtype": str(array.dtype)}
    return {**said, **size(array), **({"values": _listed(array)} if values else {})}


def size(array: "NDArray[Any]") -> dict[str, float | None]:
    """Return rms, least and greatest value of an array; of a complex one those of its magnitude."""
    import numpy as np

    if not array.size:
        return {"rms": None, "min": None, "max": None}
    real = np.asarray(np.abs(array) if np.iscomplexobj(array) else array, np.float64)
    return {"rms": float(np.sqrt(np.mean(real**2))), "min": float(real.min()), "max": float(real.max())}


def _listed(array: "NDArray[Any]") -> Any:
    """Return the values as lists; a complex one as [real, imaginary]."""
    import numpy as np

    return (np.stack([np.real(array), np.imag(array)], -1) if np.iscomplexobj(array) else array).tolist()


def text(said: Mapping[str, Any]) -> str:
    """Return a plain message as people read it."""
    from beamslot.errors import describe_slots

    kind = said["kind"]
    if kind == "eos":
        reason = "ok" if said["ok"] else f"failed: {said['reason']}"
        return f"end before slot {said['first']}: {reason}"
    if kind == "describe":
        lengths = " ".join(f"{axis}={length}" for axis, length in said["axes"].items())
        arrays = [f"  {name} [{' '.join(a['axes'])}] {a['dtype']} [{a['unit']}]" for name, a in said["arrays"].items()]
        return "\n".join([f"{said['stream']}: {lengths}, slots of {said['slot_period']:g} s", *arrays])
    slots = describe_slots(range(said["first"], said["first"] + said["count"]))
    if kind == "gap":
        return f"{slots}: gap, {said['reason']}"
    tags = [f"  tags: {', '.join(f'{key} {value}' for key, value in said['tags'].items())}"] if "tags" in said else []
    return "\n".join([slots, *tags, *(_line(name, array) for name, array in said["arrays"].items())])


def _line(name: str, array: Mapping[str, Any]) -> str:
    shape = " ".join(f"{axis}={n}" for axis, n in zip(array["axes"], array["shape"], strict=False))
    numbers = " ".join(f"{key} {array[key]:.4g}" for key in ("rms", "min", "max") if array[key] is not None)
    values = f"\n    {array['values']}" if "values" in array else ""
    return f"  {name}: {shape or array['shape']} {array['dtype']} {numbers}{values}"
