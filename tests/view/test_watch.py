"""What a watch makes of messages and looks, when its ears rest, and what the page says of them."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_runs import until

from beamslot.frame import Array, Describe, Frame, Gap, Operator, StreamInfo
from beamslot.ports import ESTIMATE, TRUTH
from beamslot.runtime import observe, rundir
from beamslot.runtime.observe import Rates
from beamslot.view import graph, panels
from beamslot.view.listening import MOST_FRAMES, Bursts
from beamslot.view.watch import ENDED, SILENT, Picture, Scene, Watch, bound_of, lean

AXES = {"user": 1, "y": 4, "z": 3, "path": 2}
OPERATOR = Operator(np.ones((4, 1, 3), np.complex64), np.array([0, 1, 0, 1], np.int16), (-0.5, 0.0))
INFOS = {
    "source.truth": StreamInfo(TRUTH, AXES),
    "omp.estimate": StreamInfo(ESTIMATE, AXES, operator=OPERATOR),
    "mine.channel": StreamInfo({"channel": ESTIMATE["channel"]}, AXES, operator=OPERATOR),
    "combiner.rf": StreamInfo({"rf": Array.of("slot user y chain", np.complex64)}, {**AXES, "chain": 1}),
}


def frame(port: str, first: int, count: int, rng: np.random.Generator) -> Frame:
    info = INFOS[port]
    shapes = {name: info.shape(name, count) for name in info.arrays}
    return Frame(first, count, {
        name: np.ones(shape, bool) if (kind := info.arrays[name].dtype).kind == "b"
        else rng.standard_normal(shape).astype(kind)
        for name, shape in shapes.items()
    })  # fmt: skip


def heard(rng: np.random.Generator, *ports: str) -> Scene:
    scene = Scene(ports)
    for port in ports:
        scene.take(port, Describe(port, INFOS[port]), 0.0)
    for port in ports:
        scene.take(port, frame(port, 0, 3, rng), 1.0)
    return scene


def test_a_scene_finds_truth_and_estimators_and_shows_a_slot_of_both(rng: np.random.Generator) -> None:
    scene = heard(rng, "combiner.rf", "mine.channel", "omp.estimate", "source.truth")
    assert scene.truth_port == "source.truth"
    assert [*scene.estimators.values()] == ["mine", "omp"]
    assert scene.operator == OPERATOR
    shown = scene.show()
    assert shown is not None
    assert (shown.slot, shown.users) == (2, 1)
    assert {*shown.errors} == {*shown.estimated} == {"mine", "omp"}
    assert len(shown.truth["u"]) == len(shown.paths["omp"]["u"]) == 2
    assert shown.paths["mine"]["u"] == [], "a stream without paths has none on the map"
    standing = {one.name: one for one in scene.standing()}
    assert standing["omp"].paths == 2
    assert standing["mine"].paths is None
    assert math.isfinite(standing["mine"].level or math.nan)
    scene.take("omp.estimate", Gap(3, 4, "latest"), 1.0)
    assert scene.seen["omp.estimate"].gaps == {"latest": 4}
    assert "combiner.rf" not in scene.seen


def test_without_a_truth_estimates_are_shown_and_compared_with_nothing(rng: np.random.Generator) -> None:
    scene = heard(rng, "omp.estimate")
    shown = scene.show()
    assert shown is not None
    assert shown.channel is None
    assert shown.errors == {}
    assert shown.truth["u"] == []
    assert len(shown.paths["omp"]["u"]) == 2
    assert scene.standing()[0].level is None
    assert Scene(["a.x"]).show() is None


def test_a_line_breaks_once_where_an_estimator_falls_silent(rng: np.random.Generator) -> None:
    scene = heard(rng, "omp.estimate", "source.truth")
    scene.point(1.0, -20.0, 10.0)
    scene.point(1.1, -20.0, 10.1)
    scene.point(2.0, -20.0, 11.0)
    assert [(p.serial, p.seconds) for p in scene.points] == [(0, 1.0)], "not too often, and nothing new"
    scene.point(5.0, None, 10.0 + SILENT + 1)
    scene.point(9.0, None, 20.0 + SILENT + 1)
    assert len(scene.points) == 2
    assert math.isnan(scene.points[-1].levels["omp"])
    assert math.isnan(scene.points[-1].bound)


def test_a_slow_run_is_heard_always_and_a_fast_one_in_bursts() -> None:
    calm, fast = Bursts(0.0), Bursts(0.0)
    rested = {"calm": 0, "fast": 0}
    for tick in range(2000):
        now = tick * 0.01
        for name, bursts, frames in (("calm", calm, 1), ("fast", fast, 30)):
            resting = bursts.rests(now)
            rested[name] += resting
            bursts.heard(0 if resting else frames, now)
    assert rested["calm"] == 0
    assert calm.share == 1
    heard_per_second = 30 * (2000 - rested["fast"]) / 20
    assert heard_per_second == pytest.approx(MOST_FRAMES, rel=0.2)
    assert fast.share == pytest.approx(MOST_FRAMES / 3000, rel=0.2)


def test_a_watch_outlives_what_is_wrong_with_a_run_and_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = rundir.create()
    rundir.write_card(place, "odd", {}, blocks={}, logs="")
    rundir.write_status(place, {**status(), "state": "running", "at": 1.0, "processes": "none"})
    watch = Watch("odd")
    watch.start()
    try:
        assert "TypeError" in until(lambda: watch.picture.trouble)
        rundir.write_status(place, {**status(), "state": "running", "at": 2.0})
        until(lambda: watch.picture.state == "running" and not watch.picture.trouble)
        assert "7: latest 7" in panels.blocks(watch.picture)
        shutil.rmtree(place)
        until(lambda: watch.picture.state == ENDED)
    finally:
        watch.stop()


def test_looks_are_kept_without_the_latencies_that_nobody_looks_at() -> None:
    latency = {"end_to_end": [[40, 2]], "calls": {"omp": [[1, 1]] * 1000}}
    kept = lean(observe.Look({}, status(latency=latency), {}, 1.0, 1.0))
    assert kept.status["latency"] == {"end_to_end": [[40, 2]]}
    assert kept.status["slots"] == 5
    assert lean(observe.Look({}, status(), {}, 1.0, 1.0)).status["latency"] == {"end_to_end": ()}


def test_the_bound_is_that_of_the_first_sink_that_has_one() -> None:
    assert bound_of({"sinks": {"a": {"slots": 3}, "b": {"omp": {"nmse_db": -1.0}, "crb": {"nmse_db": -9.0}}}}) == -9.0
    assert bound_of({}) is None


def status(**more: Any) -> dict[str, Any]:
    block = {"slots": 5, "state": "waiting", "p50_us": 10.0, "p99_us": 20.0, "restarts": 0}
    return {
        "blocks": {"<a>": block, "b": {**block, "restarts": 2}},
        "edges": [{"edge": "<a>.x > b.x", "dropped": {"latest": 7}}],
        "processes": [{"process": "<a>", "blocks": ["<a>"], "pid": 1, "restarts": 0}],
        "slots": 5, "total": 10, "late_slots": 1, "restarts": 2, "seconds": 3725.0, "end_to_end": {}, "notes": ["<n>"],
        **more,
    }  # fmt: skip


def test_blocks_without_a_process_are_down_and_all_have_ended_with_the_run() -> None:
    assert panels.states(status(), Rates(), "running") == {"<a>": "waiting", "b": panels.DOWN}
    assert {*panels.states(status(), Rates(), ENDED).values()} == {ENDED}


def test_panels_say_what_was_dropped_and_restarted_and_escape_names() -> None:
    picture = Picture(
        name="<run>", state="running", status=status(), card={"blocks": {}}, rates=Rates(slots={"<a>": 12.0, "b": 99.0})
    )
    head, blocks, drawn, taps = (
        make(picture) for make in (panels.headline, panels.blocks, panels.drawing, panels.taps)
    )
    assert "5 of 10" in head
    assert "12 /s" in head, "the rate of the source, not of whatever runs most"
    assert "1 h 02 min" in head
    assert "7: latest 7" in blocks
    assert "restarted 2 times" in drawn
    assert "state-down" in drawn
    assert "edge dropped" in drawn
    assert "&lt;n&gt;" in taps
    for html in (head, blocks, drawn, taps):
        assert "<a>" not in html
        assert "<run>" not in html
    other = Picture(name="live", status=status(), others=["live", "a&b"])
    assert '?run=a&amp;b&token=t"' in panels.headline(other, "t")


def test_what_is_not_there_is_said() -> None:
    assert "nothing runs" in panels.drawing(Picture())
    assert "no run is called lab" in panels.drawing(Picture(name="lab"))
    assert "No port of this graph gives estimates" in panels.estimators(Picture(described=True), {}, {})
    assert [panels.duration(seconds) for seconds in (5.9, 65, 7260)] == ["5 s", "1 min 05 s", "2 h 01 min"]


def test_a_graph_is_drawn_in_layers_with_every_edge_on_its_way() -> None:
    edges = [graph.Edge.of(text) for text in ("a.x > b.x", "b.x > c.x", "a.x > d.x", "c.x > d.x", "a.y > d.y")]
    assert graph.layers("abcd", edges) == {"a": 0, "b": 1, "c": 2, "d": 3}
    drawn = graph.svg([graph.Node(name) for name in "abcd"], edges)
    assert drawn.count('class="edge"') == drawn.count('class="arrow"') == len(edges)
    assert drawn.count('class="name"') == 4
    assert graph.svg([], []) == ""
    assert graph.layers("ab", [graph.Edge("a", "b"), graph.Edge("b", "a")]).keys() == {"a", "b"}
