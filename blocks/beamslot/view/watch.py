"""What a run shows, kept up by a thread: it looks at the run four times a second and hears its taps in between.

The thread makes a `Picture` at every look; pages read the newest and change nothing. A run that ends stays to be seen
as ended, until another of its name begins.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BeamslotError
from beamslot.frame import Describe, Frame, Gap, Message, Operator, StreamInfo
from beamslot.runtime import observe, rundir
from beamslot.runtime.observe import Look, Rates
from beamslot.tables import judged
from beamslot.view import data
from beamslot.view.listening import Bursts, Ears
from beamslot.view.parameters import Mark, Parameters
from beamslot.view.wheel import Wheel

EVERY = 0.25
"""A run is looked at so often [s]; it says as often how it stands."""

RATES_OVER = 2.0
"""Rates are over so long [s]."""

RECENT = 10.0
"""The newest latencies are those of so long [s]."""

POINT_EVERY = 0.5
"""The NMSE is drawn so often [s]."""

POINTS = 900
"""Points of the NMSE over time that are kept."""

SILENT = 3.0
"""After so long without a slot the line of an estimator breaks [s]."""

UNSEEN_FOR = 30.0
"""Taps are let go when no page has been open for so long [s]."""

AGAIN_AFTER = 1.0
"""A watch that stumbled begins anew after so long [s]."""

WAITING, ENDED = "waiting", "ended"
"""States of a page beside those of a run: none such runs yet, and it is over."""


@dataclass(frozen=True)
class Point:
    """The NMSE at one time [s of the run]: of every estimator, and the bound [dB]; NaN where a line breaks."""

    serial: int
    seconds: float
    levels: Mapping[str, float]
    bound: float


@dataclass(frozen=True, eq=False)
class Shown:
    """A slot to be shown: its truth and the estimates of it by name; users: how many the streams have."""

    slot: int
    users: int
    truth: Mapping[str, Sequence[float]]
    paths: Mapping[str, Mapping[str, Sequence[float]]]
    channel: NDArray[np.float32] | None
    estimated: Mapping[str, NDArray[np.float32]] = field(default_factory=dict[str, NDArray[np.float32]])
    errors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict[str, NDArray[np.float32]])


@dataclass(frozen=True)
class Estimator:
    """How an estimator stands: NMSE over the newest slots seen [dB], paths and iterations of the slot shown."""

    name: str
    level: float | None = None
    paths: int | None = None
    iterations: int | None = None
    not_finite: int = 0


@dataclass(frozen=True, eq=False)
class Picture:
    """A run at one time, as a page shows it.

    run: what tells runs apart, changes with the run    others: names of the other runs
    flat: whether the array is a line, whose paths have u only
    bound, bound_now: Cramer-Rao bound of the whole run by a sink, and of the newest slots seen [dB]
    parameters: what may change, by block, and with which values now; None where the run does not say    pace: its pace
    """

    serial: int = 0
    run: str = ""
    name: str = ""
    state: str = WAITING
    card: Mapping[str, Any] = field(default_factory=dict[str, Any])
    status: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rates: Rates = field(default_factory=Rates)
    others: Sequence[str] = ()
    truth_port: str = ""
    estimators: Sequence[Estimator] = ()
    described: bool = False
    intervals: Sequence[tuple[float, float]] = ()
    flat: bool = False
    shown: Shown | None = None
    points: Sequence[Point] = ()
    bound: float | None = None
    bound_now: float | None = None
    parameters: Mapping[str, Mapping[str, Any]] | None = None
    pace: float | None = None
    marks: Sequence[Mark] = ()
    recent: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    whole: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    seen: Mapping[str, data.Seen] = field(default_factory=dict[str, data.Seen])
    share: float = 1.0
    trouble: str = ""


class Scene:
    """What was heard of one run; all of it bounded."""

    def __init__(self, ports: Sequence[str]) -> None:
        self._names = data.short_names(ports)
        self._infos: dict[str, StreamInfo] = {}
        self.roles: dict[str, str] = {}
        self.seen: dict[str, data.Seen] = {}
        self._matcher, self.means, self.gallery = data.Matcher(), data.Means(), data.Gallery()
        self._bounds = data.Bounds()
        self.points: deque[Point] = deque(maxlen=POINTS)
        self._fed: dict[str, float] = {}
        self._pointed = 0.0

    @property
    def truth_port(self) -> str:
        """The port that gives the truth, empty where none does."""
        return next((port for port, role in self.roles.items() if role == "truth"), "")

    @property
    def estimators(self) -> dict[str, str]:
        """The names of the estimators by port, in the order of the graph's ports."""
        return {port: name for port, name in self._names.items() if self.roles.get(port) == "estimate"}

    @property
    def measured(self) -> StreamInfo | None:
        """The first stream of an estimator that tells how it was measured."""
        infos = (self._infos[port] for port in self.estimators)
        return next((info for info in infos if info.operator is not None), None)

    @property
    def operator(self) -> Operator | None:
        """How the first of the estimators that tell it are given the channel."""
        measured = self.measured
        return None if measured is None else measured.operator

    @property
    def flat(self) -> bool:
        """Whether the array is a line along y."""
        found = next((i.axes for p, i in self._infos.items() if self.roles[p]), {})
        return bool(found) and found["z"] == 1

    @property
    def users(self) -> int:
        """Number of users."""
        return next((i.axes["user"] for p, i in self._infos.items() if self.roles[p]), 1)

    def take(self, port: str, message: Message, now: float) -> float:
        """Take in a message at a time [s]; return the longest lag of an estimate behind its truth [s]."""
        if isinstance(message, Describe):
            self._describe(port, message)
        elif isinstance(message, Gap) and port in self.seen:
            self.seen[port].gap(message.first, message.count, message.reason)
        elif isinstance(message, Frame) and self.roles.get(port):
            return self._frame(port, message, now)
        return 0.0

    def _describe(self, port: str, message: Describe) -> None:
        info = message.info
        self._infos[port], self.roles[port] = info, data.role(info)
        if self.roles[port]:
            self.seen.setdefault(port, data.Seen())

    def _frame(self, port: str, message: Frame, now: float) -> float:
        slots = range(message.first, message.end)
        self.seen[port].frame(slots)
        found = data.rows(slots, message.arrays, self._infos[port])
        if self.roles[port] == "truth":
            self.gallery.truth(found[-1])
            self._bounds.add(found, self.measured, now)
            matches = self._matcher.truth(found, now)
        else:
            matches = self._matcher.estimate(self._names[port], found, now)
            if not self.truth_port:
                self.gallery.add(data.Match(self._names[port], found[-1].slot, found[-1], found[-1], 0.0))
        for match in matches:
            self.means.add(match.name, data.slot_nmse(match))
            self.gallery.add(match)
        return max((match.lag for match in matches), default=0.0)

    @property
    def bound(self) -> float | None:
        """The Cramer-Rao bound of the newest slots seen [dB], None where none can be worked out."""
        return self._bounds.level

    def point(self, seconds: float, bound: float | None, now: float) -> None:
        """Note the NMSE at a time of the run, where it is time to; lines that had no slot for long break."""
        if now - self._pointed < POINT_EVERY:
            return
        self._pointed = now
        levels = self.means.read()
        self._fed.update(dict.fromkeys(levels, now))
        broken = [name for name, at in self._fed.items() if name not in levels and now - at > SILENT]
        for name in broken:
            del self._fed[name]
        if levels or broken:
            serial = self.points[-1].serial + 1 if self.points else 0
            levels |= dict.fromkeys(broken, float("nan"))
            self.points.append(Point(serial, seconds, levels, float("nan") if bound is None else bound))

    def show(self) -> Shown | None:
        """Return the slot to be shown, None where no slot with a channel was seen."""
        truth, estimates = self.gallery.pick()
        first = truth if truth is not None else next(iter(estimates.values()), None)
        if first is None:
            return None
        known = truth["channel"][0] if truth is not None and self.truth_port else None
        channels = {name: row["channel"][0] for name, row in estimates.items()}
        fitting = {name: one for name, one in channels.items() if known is None or one.shape == known.shape}
        return Shown(
            slot=first.slot,
            users=self.users,
            truth=data.path_columns(truth if self.truth_port else None),
            paths={name: data.path_columns(row) for name, row in estimates.items()},
            channel=None if known is None else data.magnitude(known),
            estimated={name: data.magnitude(one) for name, one in fitting.items()},
            errors={} if known is None else {name: data.error_db(one, known) for name, one in fitting.items()},
        )

    def standing(self) -> list[Estimator]:
        """Return how the estimators stand."""
        levels, (_, estimates) = self.means.levels(), self.gallery.pick()
        return [
            Estimator(
                name,
                levels.get(name),
                int(row["mask"][0].sum()) if row is not None and "mask" in row else None,
                int(row["iterations"][0]) if row is not None and "iterations" in row else None,
                self.means.not_finite.get(name, 0),
            )
            for name, row in ((name, estimates.get(name)) for name in self.estimators.values())
        ]


def bound_of(status: Mapping[str, Any]) -> float | None:
    """Return the Cramer-Rao bound that a sink of the run gives [dB], None where none does."""
    bounds = (judged(results)[1] for results in (status.get("sinks") or {}).values())
    return next((bound for bound in bounds if bound is not None), None)


class Watch:
    """Watches the newest run of a name, in a thread; `picture` is what it shows now.

    wanted: name or pid, any run where it is empty
    """

    def __init__(self, wanted: str = "", now: Callable[[], float] = time.monotonic) -> None:
        self.wanted = wanted
        self.picture = Picture(name=wanted)
        self._now = now
        self.wheel = Wheel()
        self._viewers, self._left_at = 0, now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"watch {wanted}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self.wheel.stop()
        self._thread.join(5)

    def enter(self) -> None:
        """Count a page that is open."""
        self._viewers += 1

    def leave(self) -> None:
        """Count a page that was closed."""
        self._viewers -= 1
        self._left_at = self._now()

    @property
    def looked_at(self) -> bool:
        """Whether a page is open, or was until just now."""
        return self._viewers > 0 or self._now() - self._left_at < UNSEEN_FOR

    def _loop(self) -> None:
        while not self._over.is_set():
            try:
                card = self._find()
                if card is not None:
                    self._follow(card)
            except Exception as error:  # a viewer outlives what is wrong with a run, and says what it is
                told = str(error) if isinstance(error, BeamslotError) else f"{type(error).__name__}: {error}"
                self._say(trouble=f"the viewer stumbled and tries again: {told}", run="")
                self._over.wait(AGAIN_AFTER)
            self._over.wait(EVERY)

    def _find(self) -> Mapping[str, Any] | None:
        """Return the run to watch, one not known yet; after a run that was asked for by pid, one of its name."""
        runs = rundir.runs()
        wanted = self.picture.name if self.wanted.isdigit() and self.picture.name else self.wanted
        fitting = [run for run in runs if not wanted or wanted in (run["name"], str(run["pid"]))]
        self._say(others=[run["name"] for run in runs])
        return fitting[-1] if fitting and identity(fitting[-1]) != self.picture.run else None

    def _say(self, **changes: Any) -> None:
        if any(getattr(self.picture, name) != value for name, value in changes.items()):
            self.picture = Picture(**{**vars(self.picture), "serial": self.picture.serial + 1, **changes})

    def _follow(self, card: Mapping[str, Any]) -> None:
        """Watch a run until it ends."""
        watched = _Watched(card, self._now(), self.wheel)
        try:
            while not self._over.is_set() and (now := watched.look()) is not None:
                self._say(**now, others=[run["name"] for run in rundir.runs()])
                watched.hear(EVERY, self.looked_at)
        finally:
            watched.close()
        if not self._over.is_set():
            self._say(state=ENDED, rates=Rates())


def lean(seen: Look) -> Look:
    """Return a look without the latencies that no page shows: they are most of its size, and ten seconds are kept."""
    latency = seen.status.get("latency") or {}
    kept = {"end_to_end": latency.get("end_to_end") or ()}
    return replace(seen, status={**seen.status, "latency": kept})


def identity(card: Mapping[str, Any]) -> str:
    """Return what tells a run from all others."""
    return f"{card['pid']}-{card['started']}"


class _Watched:
    """One run: its looks, and the ears at its taps."""

    def __init__(self, card: Mapping[str, Any], now: float, wheel: Wheel) -> None:
        self._card = card
        self._parameters = Parameters(card, wheel)
        self._looks: deque[Look] = deque(maxlen=round(RECENT / EVERY))
        self._scene = Scene([*card["ports"]])
        self._ears: Ears | None = Ears(card["ports"])
        self._bursts = Bursts(now)

    def close(self) -> None:
        if self._ears is not None:
            self._ears.close()

    def look(self) -> dict[str, Any] | None:
        """Return what a picture shows of the run now; None where it is over."""
        found = observe.look(self._card)
        if found is None:
            gone = rundir.born(self._card["pid"]) is None or not self._registered()
            return None if gone else {"run": identity(self._card), "name": self._card["name"], "state": "starting"}
        if not self._looks or found.at > self._looks[-1].at:
            self._looks.append(lean(found))
        if rundir.born(self._card["pid"]) is None:
            return None
        return self._picture(found)

    def _registered(self) -> bool:
        return any(identity(run) == identity(self._card) for run in rundir.runs())

    def _picture(self, found: Look) -> dict[str, Any]:
        scene, status, now = self._scene, found.status, time.monotonic()
        bound, seconds = bound_of(status), status["seconds"] + max(now - found.at, 0.0)
        scene.point(seconds, bound if scene.bound is None else scene.bound, now)
        self._parameters.follow(status, seconds, now)
        counts = (status.get("latency") or {}).get("end_to_end") or ()
        earlier = next((look for look in self._looks if found.at - look.at <= RATES_OVER), found)
        before = (self._looks[0].status.get("latency") or {}).get("end_to_end") or ()
        return {
            "run": identity(self._card),
            "name": self._card["name"],
            "state": status["state"],
            "card": self._card,
            "status": status,
            "rates": observe.between(earlier, self._looks[-1]),
            "truth_port": scene.truth_port,
            "estimators": scene.standing(),
            "described": len(scene.roles) > 0,
            "intervals": data.sub_intervals(scene.operator) if scene.operator is not None else (),
            "flat": scene.flat,
            "shown": scene.show(),
            "points": tuple(scene.points),
            "bound": bound,
            "bound_now": scene.bound,
            "parameters": self._parameters.told,
            "pace": self._parameters.pace,
            "marks": tuple(self._parameters.marks),
            "recent": data.histogram(counts, before if len(self._looks) > 1 else ()),
            "whole": data.histogram(counts),
            "seen": {port: scene.seen[port] for port in self._card["ports"] if port in scene.seen},
            "share": self._bursts.share,
            "trouble": "",
        }

    def hear(self, seconds: float, looked_at: bool) -> None:
        """Hear the taps for so long; nothing while no page is open, and in bursts where the run is fast."""
        ears, until = self._ears, time.monotonic() + seconds
        if ears is None:
            time.sleep(seconds)
            return
        while (now := time.monotonic()) < until:
            if not looked_at or self._bursts.rests(now):
                ears.rest()
            else:
                ears.wake()
            heard = ears.hear(min(until - now, 0.05))
            now = time.monotonic()
            lags = [self._scene.take(port, message, now) for port, message in heard]
            self._bursts.lagged(max(lags, default=0.0))
            self._bursts.heard(sum(isinstance(message, Frame) for _, message in heard), now)
            for port, role in self._scene.roles.items():
                if not role:  # nothing of it is shown
                    ears.drop(port)


class Hub:
    """The watches of a server, one for each run that was asked for."""

    def __init__(self, wanted: str = "") -> None:
        self._wanted = wanted
        self._watches: dict[str, Watch] = {}

    def watch(self, wanted: str = "") -> Watch:
        """Return the watch of a run, begun where it is new; that of the server where none is called so."""
        named = {name for run in rundir.runs() for name in (run["name"], str(run["pid"]))}
        wanted = wanted if wanted in self._watches or wanted in named else self._wanted
        if wanted not in self._watches:
            self._watches[wanted] = Watch(wanted)
            self._watches[wanted].start()
        return self._watches[wanted]

    def stop(self) -> None:
        """End all threads."""
        for watch in self._watches.values():
            watch.stop()
