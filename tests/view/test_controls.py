"""The controls of the page: what a parameter looks like, what is asked when one is moved, and what is said of it."""

import math
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("bokeh")

from beamslot_runs import Runner, graph, until
from bokeh.models import InlineStyleSheet, Select, Slider, Spinner, TextInput

from beamslot.errors import BadParam, FlowgraphError, PeerLost
from beamslot.runtime import observe
from beamslot.sinks.null_sink import NullSink
from beamslot.sources.upa_source import UpaSource
from beamslot.view.controls import NO_RESTART, READ_ONLY, Controls
from beamslot.view.knobs import knob_of, round_step, told
from beamslot.view.parameters import Parameters
from beamslot.view.watch import Picture, Watch
from beamslot.view.wheel import Wheel


@pytest.mark.parametrize(
    ("declared", "kind", "low", "high", "step"),
    [
        ({"type": "number", "unit": "dB", "value": 8.0}, "slider", -12, 28, 0.5),
        ({"type": "number", "unit": "dB", "minimum": 0, "value": 0.5}, "slider", 0, 20.5, 0.5),
        ({"type": "number", "minimum": 0, "value": 4e-4}, "slider", 0, 1.6e-3, 2e-5),
        ({"type": "number", "minimum": 0, "maximum": 1, "value": 0.0}, "slider", 0, 1, 0.01),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "value": 0.1}, "slider", 0.01, 0.99, 0.01),
        ({"type": "number", "exclusiveMinimum": 0, "value": 9.0}, "slider", 0.5, 36, 0.5),
        ({"type": "number", "value": -2.0}, "slider", -8, 0, 0.1),
        ({"type": "number", "minimum": 0, "value": 0.0}, "text", None, None, 1),
        ({"type": "number", "minimum": 10, "maximum": 1e9, "value": 1e5}, "text", None, None, 1),
        ({"type": "integer", "minimum": 1, "value": 10}, "spinner", 1, None, 1),
        ({"type": "integer", "exclusiveMinimum": 1, "maximum": 24, "value": 10}, "spinner", 2, 24, 1),
        ({"type": "boolean", "value": True}, "switch", None, None, 1),
        ({"enum": ["music", "esprit"], "type": "string", "value": "music"}, "choice", None, None, 1),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "value": None}, "text", None, None, 1),
        ({"type": "array", "value": [128, 36]}, "text", None, None, 1),
    ],
)
def test_a_parameter_gets_the_control_that_its_declaration_asks_for(
    declared: dict[str, Any], kind: str, low: float | None, high: float | None, step: float
) -> None:
    knob = knob_of(declared)
    assert knob.kind == kind
    assert (knob.low, knob.high, knob.step) == (low, high, pytest.approx(step))
    assert knob.value(knob.raw(declared["value"])) == declared["value"]


def test_a_text_is_read_as_the_command_line_reads_it_and_never_run() -> None:
    knob = knob_of({"type": "array", "value": [128, 36]})
    assert [knob.value(text) for text in ("[64, 18]", "none", "", "0.5/10", "1e-3")] == [
        [64, 18],
        None,
        None,
        0.05,
        1e-3,
    ]
    assert knob.value("__import__('os')") == "__import__('os')"
    with pytest.raises(FlowgraphError, match="the value"):
        knob.value("[1, ")
    assert [told(value) for value in (None, 0.1 + 0.2, 12, "music", [1, 2], math.inf)] == [
        "none", "0.3", "12", "music", "[1, 2]", "max"
    ]  # fmt: skip
    assert [round_step(step) for step in (0.3, 1.0, 7.0, 0.0)] == [0.5, 1.0, 10.0, 1.0]


PARAMETERS = {
    "source": {
        "snr_db": {"type": "number", "unit": "dB", "description": "signal to noise", "value": 8.0},
        "paths": {"type": "integer", "minimum": 1, "value": 5},
    },
    "doa": {
        "method": {"type": "string", "enum": ["music", "esprit"], "value": "music"},
        "deadline": {"type": "number", "minimum": 0, "unit": "s", "value": None},
    },
}
STATUS = {"blocks": {"source": {}, "doa": {}}, "slots": 100, "timeline": []}


class Helm:
    """Stands for the run's end of a wheel: keeps what was asked, answers when told to."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Future[dict[str, Any]]] = []

    def ask(self, card: Any, do: str, **fields: Any) -> Future[dict[str, Any]]:
        self.asked.append({"do": do, **fields})
        self.answers.append(Future())
        return self.answers[-1]


class Panel:
    """Controls with a run of ours behind them."""

    def __init__(self, **options: Any) -> None:
        self.helm = Helm()
        watch: Any = SimpleNamespace(wheel=self.helm)
        self.controls = Controls(watch, InlineStyleSheet(css=""), **{"steers": True, **options})
        self.show()

    def show(self, parameters: Any = PARAMETERS, **more: Any) -> None:
        given = {"parameters": parameters, "pace": 1.0, "state": "running", "status": STATUS} | more
        for _ in range(3):  # what is moved rests for two ticks
            self.controls.update(Picture(**given))

    def find(self, name: str) -> Any:
        (found,) = self.controls.root.select({"name": name})
        return found

    @property
    def said(self) -> str:
        return self.find("said").text


def changed(value: float) -> dict[str, Any]:
    return PARAMETERS | {"source": PARAMETERS["source"] | {"snr_db": PARAMETERS["source"]["snr_db"] | {"value": value}}}


def test_what_is_moved_is_asked_for_once_it_rests_and_shows_what_the_run_took() -> None:
    panel = Panel()
    kinds = {"source.snr_db": Slider, "source.paths": Spinner, "doa.method": Select, "doa.deadline": TextInput}
    assert all(isinstance(panel.find(name), kind) for name, kind in kinds.items())
    assert panel.find("source.snr_db").title == "snr_db [dB]"
    assert "signal to noise (no limits)" in panel.find("source.snr_db").html_attributes["title"]
    assert panel.helm.asked == []
    for value in (9.0, 12.0):
        panel.find("source.snr_db").value = value
    panel.show()
    assert panel.helm.asked == [{"do": "set", "block": "source", "values": {"snr_db": 12.0}}]
    assert "source.snr_db: asked" in panel.said
    panel.helm.answers[-1].set_result({"ok": True, "slot": 120, "values": {"snr_db": 12.0}})
    timeline = [{"slot": 120, "block": "source", "values": {"snr_db": 12.0}}]
    panel.show(status=STATUS | {"timeline": timeline})
    assert '<li class="coming"><b>120</b>source.snr_db = 12</li>' in panel.said
    panel.show(changed(12.0), status=STATUS | {"timeline": timeline, "slots": 121})
    assert '<li class="held"><b>120</b>source.snr_db = 12</li>' in panel.said
    assert len(panel.helm.asked) == 1, "what the run says is not asked for again"


def test_what_is_refused_goes_back_and_says_why() -> None:
    panel = Panel()
    panel.find("source.paths").value = 3
    panel.show()
    panel.helm.answers[-1].set_exception(BadParam("source.paths: got <3>; wanted more"))
    panel.show()
    assert panel.find("source.paths").value == 5
    assert '<li class="refused">source.paths: got &lt;3&gt;; wanted more</li>' in panel.said
    assert len(panel.helm.asked) == 1
    panel.find("doa.deadline").value = "[1,"
    panel.show()
    assert len(panel.helm.asked) == 1, "what cannot be read is not sent"
    assert panel.find("doa.deadline").value == "none"
    panel.find("source.paths").value = 6
    panel.show()
    assert "wanted more" not in panel.said


def test_a_change_made_elsewhere_is_followed_even_beyond_the_slider() -> None:
    panel = Panel()
    panel.show(changed(60.0))
    slider = panel.find("source.snr_db")
    assert (slider.value, slider.start, slider.end) == (60.0, -12.0, 60.0)
    panel.show(changed(60.0), pace=3.0)
    assert panel.find("pace").value == "3"
    panel.show(changed(60.0), pace=math.inf)
    assert panel.find("pace").value == "max"
    assert panel.helm.asked == []


def test_pace_pauses_and_restarts_are_asked_for() -> None:
    panel = Panel()
    panel.find("pace").value = "0.5"
    panel.find("restart").value = "doa"
    assert panel.find("restart").value == NO_RESTART
    panel.controls._toggle()  # a click, which only a browser can make
    panel.show(state="paused")
    assert panel.find("pause").label == "resume"
    panel.controls._toggle()
    assert panel.helm.asked == [
        {"do": "restart", "block": "doa"},
        {"do": "pause"},
        {"do": "set", "block": "", "values": {"pace": "0.5"}},
        {"do": "resume"},
    ]
    panel.helm.answers[0].set_exception(BadParam("restart: doa has ended"))
    panel.show()
    assert "restart: doa has ended" in panel.said


def test_who_may_only_look_moves_nothing() -> None:
    panel = Panel(steers=False)
    slider = panel.find("source.snr_db")
    assert slider.disabled
    slider.value, panel.find("pace").value, panel.find("restart").value = 20.0, "2", "doa"
    panel.show()
    assert panel.helm.asked == []
    assert READ_ONLY in panel.said
    assert not panel.controls._bar.visible


def test_it_is_said_where_nothing_can_be_changed() -> None:
    panel = Panel()
    panel.show({})
    assert "No parameter of this graph may change" in panel.said
    panel.show(None)
    assert "has not told its parameters" in panel.said
    panel.show(state="ended")
    assert panel.find("source.snr_db").disabled, "a run that is over takes nothing"


def test_parameters_are_asked_for_again_only_when_a_change_was_made_or_has_come_to_hold() -> None:
    wheel: Any = Helm()
    found = Parameters({}, wheel)
    change = {"slot": 50, "block": "source", "values": {"snr_db": 3.5, "paths": 2}}

    def follow(slots: int, *changes: Any, now: float = 0.0) -> int:
        for _ in range(2):
            found.follow({"slots": slots, "timeline": changes}, slots / 10, now)
        return len(wheel.asked)

    assert follow(10) == 1
    wheel.answers[0].set_exception(PeerLost("gone"))
    assert follow(10) == 1, "not at once again"
    assert follow(11, now=100.0) == 2
    wheel.answers[1].set_result({"parameters": PARAMETERS, "pace": "1.0"})
    assert follow(12, now=100.0) == 2
    assert (found.told, found.pace) == (PARAMETERS, 1.0)
    assert follow(20, change, now=100.0) == 3
    wheel.answers[2].set_result({"parameters": PARAMETERS, "pace": 1.0})
    assert follow(49, change, now=100.0) == 3
    assert [*found.marks] == []
    assert follow(51, change, now=100.0) == 4
    (mark,) = found.marks
    assert (mark.seconds, mark.text) == (5.1, "snr_db 3.5, paths 2")


@pytest.fixture
def runs(tmp_path: Any) -> Iterator[Runner]:
    found = Runner(tmp_path)
    yield found
    found.close()


def test_a_wheel_answers_later_and_outlives_a_run_that_does_not() -> None:
    wheel = Wheel()
    lost = wheel.ask({"name": "gone", "path": "/nowhere"}, "get")
    with pytest.raises(PeerLost, match="gone: does not answer"):
        lost.result(10)
    odd = wheel.ask({}, "get")
    assert "KeyError" in str(odd.exception(10))
    wheel.stop()


def test_a_watch_tells_the_parameters_of_a_run_and_turns_its_wheel(runs: Runner) -> None:
    blocks = {"source": (UpaSource, {"n_y": 2, "n_z": 2, "paths": 1}), "none": NullSink}
    run = runs.start(graph(blocks, "source.field > none.stream", pace=1.0, slot_period=0.01))
    watch = Watch("test")
    watch.start()
    try:
        until(lambda: watch.picture.parameters and watch.picture.state == "running", 30)
        assert watch.picture.parameters is not None
        assert watch.picture.parameters["source"]["snr_db"]["value"] == 5
        slot = watch.wheel.ask(watch.picture.card, "set", block="source", values={"snr_db": 7}).result(10)["slot"]
        until(lambda: watch.picture.parameters["source"]["snr_db"]["value"] == 7)  # type: ignore[index]
        until(lambda: watch.picture.marks)
        assert watch.picture.marks[-1].text == "snr_db 7"
        assert watch.picture.status["timeline"] == [{"slot": slot, "block": "source", "values": {"snr_db": 7.0}}]
        watch.wheel.ask(observe.find("test", "stop"), "stop", now=True).result(10)
        run.report()
    finally:
        watch.stop()
