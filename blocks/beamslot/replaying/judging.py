"""What a replay found: identical, different and where, or not comparable and why."""

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from beamslot.recording import Recording
from beamslot.replaying.planning import Planned
from beamslot.runtime.diary import versions

IDENTICAL, DIFFERENT, NOT_COMPARABLE = "identical", "different", "not comparable"


def judge(recording: Recording, planned: Planned, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a replay that compared, as plain values.

    report: of the run
    returns verdict; first: the first difference (slot, port, array, index, recorded, replayed), None where there is
        none that counts; ports: what was found of each; reasons: why ports are not comparable, by port
    """
    found: Mapping[str, Any] = report["sinks"].get(planned.comparison, {})
    reasons = dict(planned.reasons)
    order = {port: number for number, port in enumerate(planned.compared)}
    differing = [(one["first"]["slot"], order[port], port) for port, one in found.items() if one["first"]]
    elsewhere, restarted = (_elsewhere(recording), _restarted(recording)) if differing else ("", "")
    firsts: list[tuple[int, int, str]] = []
    for slot, number, port in sorted(differing):
        reason = _excuse(found[port], slot, port in planned.stateful)
        reason = reason or (port in planned.fragile and restarted) or elsewhere
        if reason:
            reasons[port] = reason
        else:
            firsts.append((slot, number, port))
    for port in planned.compared:
        if not found.get(port, {}).get("slots"):
            reasons.setdefault(port, "no slot of it was compared")
    first = None if not firsts else {"port": firsts[0][2], **found[firsts[0][2]]["first"]}
    verdict = DIFFERENT if first else NOT_COMPARABLE if reasons and not _same(found, reasons) else IDENTICAL
    ports = {port: found[port] for port in planned.compared if port in found}
    return {
        "verdict": verdict,
        "first": first,
        "ports": ports,
        "reasons": reasons,
        "comparison": planned.comparison,
    }


def _same(found: Mapping[str, Any], reasons: Mapping[str, str]) -> bool:
    """Whether some port was compared and is the same, and none differs."""
    compared = {port: one for port, one in found.items() if port not in reasons}
    return bool(compared) and not any(one["first"] for one in found.values())


def _excuse(found: Mapping[str, Any], slot: int, stateful: bool) -> str:
    """Return why a difference from some slot on says nothing, or nothing."""
    if stateful and found["fed"] is not None and found["fed"] <= slot:
        return f"it depends on earlier slots, and what led to slot {found['fed']} is not recorded"
    if found["restarted"] is not None and found["restarted"] <= slot:
        return f"the recorded block began anew at slot {found['restarted']}, after a restart that lost its state"
    if found["framing"] is not None and found["framing"] <= slot:
        return f"other framing: slot {found['framing']} came in a frame of other slots than when it was recorded"
    return ""


def _restarted(recording: Recording) -> str:
    """Return that the recorded run was restarted, after which lossy connections lose what they had sent; or nothing."""
    count = recording.about.get("restarts")
    if not isinstance(count, int) or not count:
        return ""
    return "it has state and a lossy connection, and which slots its state lost in a restart is not recorded"


def _elsewhere(recording: Recording) -> str:
    """Return what is other here than where the recording was made, or nothing."""
    about = recording.about
    threads = about.get("threads")
    if isinstance(threads, Mapping):
        for name, count in threads.items():
            if os.environ.get(str(name)) != count:
                return f"other thread count: {name} is {os.environ.get(str(name))}, recorded with {count}"
    run = about.get("run")
    before = run.get("machine") if isinstance(run, Mapping) else None
    if isinstance(before, Mapping):
        here = {"architecture": platform.machine(), "kernel": platform.release()}
        changed = [key for key, one in here.items() if key in before and before[key] != one]
        if changed:
            return f"other machine: {changed[0]} is {here[changed[0]]}, recorded with {before[changed[0]]}"
    known = about.get("versions")
    if isinstance(known, Mapping):
        ours = versions()
        changed = [name for name in known if name in ours and ours[name] != known[name]]
        if changed:
            return f"other versions: {changed[0]} {ours[changed[0]]}, recorded with {known[changed[0]]}"
    return ""


def jitter(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Return how long after their recorded times slots were handed over: p50_ms, p99_ms; None as fast as it goes."""
    pace = report.get("pace") or {}
    return {f"{key}_ms": None if (us := pace.get(f"{key}_us")) is None else us / 1e3 for key in ("p50", "p99")}


def throughput(recording: Recording, planned: Planned, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return how fast the recording was read [MB/s], and which block was busiest, for what share of the time."""
    nbytes = sum(recording[port].infos[0].bytes_per_slot for port in planned.played)
    seconds = report["seconds"] or 0.0
    slots = max((report["blocks"][port.partition(".")[0]]["slots"] for port in planned.played), default=0)
    begin = min((first for port in planned.played if (first := recording[port].first) is not None), default=0)
    busy = {name: block["busy_s"] / block["replicas"] for name, block in report["blocks"].items()}
    busiest = max(busy, key=lambda name: busy[name], default="")
    return {
        "mb_per_s": (slots - begin) * nbytes / 1e6 / seconds if seconds else 0.0,
        "busiest": busiest,
        "busy": busy[busiest] / seconds if busiest and seconds else 0.0,
    }


def text(said: Mapping[str, Any]) -> list[str]:
    """Return a verdict as people read it."""
    first, lines = said["first"], list[str]()
    if first:
        index = f"{first['index']}" if first["index"] else ""
        lines.append(
            f"different: first at slot {first['slot']}: {first['port']}, {first['array']}{index}: "
            f"recorded {_short(first['recorded'])}, replayed {_short(first['replayed'])}"
        )
    else:
        lines.append(said["verdict"])
    for port, one in said["ports"].items():
        unseen = f", {one['unrecorded']:,} not recorded" if one["unrecorded"] else ""
        state = f"{one['differing']:,} of {one['slots']:,} slots differ" if one["first"] else f"{one['slots']:,} slots"
        lines.append(f"  {port}: {state}{unseen}")
    return [*lines, *(f"  {port}: not comparable: {reason}" for port, reason in said["reasons"].items())]


def _short(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{value[0]:.9g}{value[1]:+.9g}j"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
