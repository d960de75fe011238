"""The page as models, without a browser: what is updated, what is said where something is missing, and who may come."""

import asyncio
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bokeh")

from bokeh.document import Document

from beamslot.errors import BindError
from beamslot.view import data, page, plots, server
from beamslot.view.parameters import Mark
from beamslot.view.server import Viewer, is_loopback
from beamslot.view.watch import Estimator, Picture, Point, Shown

STATUS = {
    "blocks": {}, "edges": [], "processes": [], "slots": 5, "total": 0, "late_slots": 0, "restarts": 0,
    "seconds": 1.0, "notes": [],
}  # fmt: skip


def paths(*u: float) -> dict[str, list[float]]:
    return {"u": [*u], "v": [-0.2] * len(u), "level": [0.0] * len(u), "size": [9.0] * len(u)}


def picture(serial: int, **more: Any) -> Picture:
    image = np.full((3, 4), 0.5, np.float32)
    shown = Shown(7, 1, paths(0.1, 0.2), {"omp": paths(0.11)}, image, {"omp": image}, {"omp": image - 30})
    points = tuple(Point(k, float(k), {"omp": -10.0 - k} if k != 1 else {}, -20.0) for k in range(serial + 2))
    parts = {
        "run": "1", "name": "demo", "state": "running", "status": STATUS, "truth_port": "source.truth", "shown": shown,
        "estimators": [Estimator("omp", -12.0, 1, 3), Estimator("other")], "described": True, "points": points,
        "intervals": [(-0.5, -0.25), (-0.25, 0.0)], "bound": -20.0,
    }  # fmt: skip
    return Picture(serial=serial, **(parts | more))


def shown_page(*pictures: Picture) -> tuple[page.Page, Document]:
    watch: Any = SimpleNamespace(picture=pictures[0])
    made, document = page.Page(watch), Document()
    for root in made.roots:
        document.add_root(root)
    for one in pictures:
        watch.picture = one
        made.update()
        made.update()  # the tables come every second time
    document.validate()
    return made, document


def source(document: Document, root: str, index: int | str) -> dict[str, Any]:
    """Return the columns of a renderer, by its place or its name."""
    figure: Any = document.get_model_by_name(root)
    places = {renderer.name: place for place, renderer in enumerate(figure.renderers)}
    return dict(figure.renderers[places.get(index, index)].data_source.data)


def test_a_page_shows_a_picture_and_adds_only_points_that_are_new() -> None:
    _, document = shown_page(picture(0), picture(3))
    assert source(document, "angles", 0)["u"] == [0.1, 0.2]
    assert source(document, "angles", 1)["u"] == [0.11]
    assert source(document, "angles", 2)["u"] == []
    assert [*source(document, "nmse", 0)["seconds"]] == [0, 1, 2, 3, 4]
    assert [*source(document, "nmse", "omp")["seconds"]] == [0, 2, 3, 4]
    nmse: Any = document.get_model_by_name("nmse")
    assert (nmse.x_range.start, nmse.x_range.end, nmse.y_range.start, nmse.y_range.end) == (0, 4, -21, -9)
    (image,) = source(document, "error", 0)["image"]
    assert image.shape == (3, 4)
    choice: Any = document.get_model_by_name("choice")
    assert (choice.options, choice.value) == (["omp", "other"], "omp")
    choice.value = "other"
    assert source(document, "error", 0)["image"] == [], "an estimator that has not had the slot shows nothing"
    assert len(source(document, "true", 0)["image"]) == 1


def test_changes_stand_along_the_time_that_is_shown_and_the_bound_is_that_of_the_same_slots() -> None:
    marks = [Mark(0, -3.0, "too early"), Mark(1, 2.0, "snr_db 3"), Mark(2, 4.0, "a" * 50)]
    _, document = shown_page(picture(0, marks=marks), picture(3, marks=marks, bound_now=-19.0))
    found = source(document, "nmse", 1)
    assert [*found["seconds"]] == [2.0, 4.0]
    assert [len(text) for text in found["text"]] == [8, plots.MARK_LENGTH]
    nmse: Any = document.get_model_by_name("nmse")
    assert {*found["top"]} == {nmse.y_range.end}
    assert nmse.y_range.end > -9, "there is room for them above the lines"
    assert page.BOUND_NOW in page.notes(picture(0, bound_now=-19.0))["nmse_note"]
    assert page.BOUND in page.notes(picture(0))["nmse_note"]
    assert "-19.0" in document.get_model_by_name("estimators").text  # type: ignore[union-attr]


def test_what_several_sinks_judge_stands_in_one_row() -> None:
    sinks = {"angles": {"omp": {"total_rmse_deg": 0.125}}, "nmse": {"omp": {"nmse_db": -7.25, "draws": 3}}}
    _, document = shown_page(picture(0, status=STATUS | {"sinks": sinks}))
    text = document.get_model_by_name("estimators").text  # type: ignore[union-attr]
    assert [figure in text for figure in ("angle RMSE [deg]", "0.125", "-7.2")] == [True] * 3


def test_pairs_of_estimators_are_shown_where_a_sink_gives_them() -> None:
    pair = {"difference_db": -3.25, "ci95_db": [-4.0, -2.5], "better_share": 0.875}
    sinks = {"pairs": {"<a> - b": pair, "slots": {"b": 3}}, "nmse": {"b": {"nmse_db": -3.0}}}
    _, document = shown_page(picture(0, status=STATUS | {"sinks": sinks}))
    text = document.get_model_by_name("judged").text  # type: ignore[union-attr]
    assert "&lt;a&gt; - b" in text
    assert [figure in text for figure in ("-3.2", "-4.0 … -2.5", "87.5")] == [True] * 3
    _, document = shown_page(picture(0))
    assert document.get_model_by_name("judged").text == ""  # type: ignore[union-attr]


def test_error_bars_and_drift_alarms_are_shown_where_a_sink_gives_them() -> None:
    omp = {"over_crb_db": 2.25, "coverage": {"0.9": 0.75}, "white_share": 1.0, "converged_share": 0.5}
    calm = {"alarm": 0, "alarms": 0, "since": None, "level": 0.1, "learning": False, "slots": 5}
    raised = calm | {"alarm": 1, "alarms": 2, "since": 1300, "chains": [[3, 1], [3, 2], [4, 0], [5, 1]]}
    sinks = {"quality": {"omp": omp}, "calm": calm, "loud": raised, "new": calm | {"learning": True}}
    _, document = shown_page(picture(0, status=STATUS | {"sinks": sinks}))
    text = document.get_model_by_name("judged").text  # type: ignore[union-attr]
    for told in ("2.2", "75", "within", "learning", '<b class="warns">above</b>', "3.1 3.2 4.0<", "1,300"):
        assert told in text
    assert "loud" in document.get_model_by_name("headline").text  # type: ignore[union-attr]
    assert "calm" not in document.get_model_by_name("headline").text  # type: ignore[union-attr]


def test_estimators_have_one_colour_everywhere() -> None:
    _, document = shown_page(picture(0))
    angles, nmse = (document.get_model_by_name(name) for name in ("angles", "nmse"))
    for index, name in enumerate(("omp", "other"), 1):
        colour = data.colours(["omp", "other"])[name]
        (line,) = nmse.select({"name": name})  # type: ignore[union-attr]
        assert angles.renderers[index].glyph.line_color == line.glyph.line_color == colour  # type: ignore[union-attr]
        assert colour in document.get_model_by_name("estimators").text  # type: ignore[union-attr]


def test_a_theme_paints_all_plots_and_the_page_is_told() -> None:
    made, document = shown_page(picture(0))
    for theme, colours in plots.THEMES.items():
        made.paint(theme)
        assert document.get_model_by_name("beat").value.endswith(f" {theme}")  # type: ignore[union-attr]
        for name in ("angles", "true", "error", "nmse", "latency"):
            figure: Any = document.get_model_by_name(name)
            assert figure.xaxis[0].major_label_text_color == colours.text


def test_another_run_makes_the_page_begin_anew() -> None:
    _, document = shown_page(picture(0), picture(1, run="2"))
    assert document.get_model_by_name("run").value == "2"  # type: ignore[union-attr]
    _, document = shown_page(Picture(), picture(1))
    assert document.get_model_by_name("run").value == ""  # type: ignore[union-attr]


def test_what_does_not_apply_is_said_and_not_drawn() -> None:
    bare = picture(0, truth_port="", shown=Shown(7, 2, paths(), {"omp": paths()}, None, {}, {}), points=(), bound=None)
    said = page.notes(bare)
    assert page.NO_PATHS in said["angles_note"]
    assert page.NO_TRUTH in said["array_note"]
    assert page.NO_TRUTH in said["nmse_note"]
    assert page.NO_LATENCY in said["latency_note"]
    custom = page.notes(picture(0, truth_port="", estimators=[], shown=None))
    assert {page.NO_ESTIMATES in custom[name] for name in ("angles_note", "array_note")} == {True}
    assert page.NO_BOUND in page.notes(picture(0, bound=None))["nmse_note"]
    shown_page(bare)
    _, document = shown_page(picture(0, flat=True))
    assert "power" in document.get_model_by_name("angles").yaxis[0].axis_label  # type: ignore[union-attr]
    assert source(document, "angles", 0)["v"] == [0.0, 0.0], "a line of antennas sees u alone"


def test_only_this_machine_is_served_without_a_token() -> None:
    assert [is_loopback(address) for address in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [is_loopback(address) for address in ("0.0.0.0", "10.0.0.1", "lab", "::")] == [False] * 4  # noqa: S104
    with pytest.raises(BindError, match=r"view: 127\.0\.0\.1:70000 cannot be served"):
        Viewer(port=70000)


@pytest.mark.parametrize("read_only", [False, True])
def test_to_change_anything_needs_the_token_on_this_machine_too(
    read_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, bool]] = []
    monkeypatch.setattr(server, "Server", lambda *_, **given: SimpleNamespace(port=5006, given=given))
    monkeypatch.setattr(server, "fill", lambda page, watch, token, *, steers: opened.append((token, steers)))
    viewer = Viewer(read_only=read_only)
    viewer._hub = SimpleNamespace(watch=lambda wanted: wanted)  # type: ignore[assignment]
    base, _, token = viewer.url.partition("?token=")
    assert base == "http://127.0.0.1:5006/"
    assert bool(token) != read_only, "who can change nothing needs none"
    assert "auth_provider" not in viewer._server.given, "looking needs none"  # type: ignore[attr-defined]
    for given in ({}, {"token": [b""]}, {"token": [token[:-1].encode()]}, {"token": [token.encode()]}):
        context = SimpleNamespace(request=SimpleNamespace(arguments=given))
        viewer._fill(SimpleNamespace(session_context=context))  # type: ignore[arg-type]
    assert opened == [("", False)] * 3 + [(token, not read_only)]


async def first_message(url: str) -> Any:
    """Return what the server says first over a websocket, None where it hangs up."""
    from bokeh.util.token import generate_jwt_token, generate_session_id
    from tornado.httpclient import HTTPRequest
    from tornado.websocket import websocket_connect

    request = HTTPRequest(url, request_timeout=60, headers={"Origin": "http://elsewhere"})
    connection = await websocket_connect(request, subprotocols=["bokeh", generate_jwt_token(generate_session_id())])
    message = await connection.read_message()
    connection.close()
    return message


@pytest.fixture
def guarded() -> Iterator[str]:
    """The address of a viewer that takes its own machine for a foreign one, and so asks for a token."""
    code = "\n".join([
        "from beamslot.view import server",
        "server.is_loopback = lambda _: False",
        "viewer = server.Viewer()",
        "print(viewer.url, flush=True)",
        "viewer.serve()",
    ])  # fmt: skip
    child = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    yield child.stdout.readline().strip()
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 0
    child.stdout.close()


def answer(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:  # noqa: S310
            return reply.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_others_need_the_token_of_the_address(guarded: str) -> None:
    base, _, token = guarded.partition("?token=")
    assert len(token) > 20
    assert [answer(url) for url in (base, f"{base}?token=", f"{base}?token={token[:-1]}")] == [403] * 3
    assert [answer(f"{base}{path}") for path in ("metadata", "autoload.js?bokeh-autoload-element=x")] == [403] * 2
    assert answer(guarded) == 200
    socket = f"{base.replace('http', 'ws')}ws"
    assert asyncio.run(first_message(socket)) is None, "a session of one's own making is no way in"
    assert json.loads(asyncio.run(first_message(f"{socket}?token={token}")) or "")["msgtype"] == "ACK"
