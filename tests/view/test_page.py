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
from beamslot.view import page, plots
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


def source(document: Document, root: str, index: int) -> dict[str, Any]:
    figure: Any = document.get_model_by_name(root)
    return dict(figure.renderers[index].data_source.data)


def test_a_page_shows_a_picture_and_adds_only_points_that_are_new() -> None:
    _, document = shown_page(picture(0), picture(3))
    assert source(document, "angles", 0)["u"] == [0.1, 0.2]
    assert source(document, "angles", 1)["u"] == [0.11]
    assert source(document, "angles", 2)["u"] == []
    assert [*source(document, "nmse", 0)["seconds"]] == [0, 1, 2, 3, 4]
    assert [*source(document, "nmse", 1)["seconds"]] == [0, 2, 3, 4]
    nmse: Any = document.get_model_by_name("nmse")
    assert (nmse.x_range.start, nmse.x_range.end, nmse.y_range.start, nmse.y_range.end) == (0, 4, -21, -9)
    (image,) = source(document, "error", 0)["image"]
    assert image.shape == (3, 4)
    choice: Any = document.get_model_by_name("choice")
    assert (choice.options, choice.value) == (["omp", "other"], "omp")
    choice.value = "other"
    assert source(document, "error", 0)["image"] == [], "an estimator that has not had the slot shows nothing"
    assert len(source(document, "true", 0)["image"]) == 1


def test_estimators_have_one_colour_everywhere() -> None:
    _, document = shown_page(picture(0))
    angles, nmse = (document.get_model_by_name(name) for name in ("angles", "nmse"))
    for index, name in enumerate(("omp", "other"), 1):
        colour = plots.colours(["omp", "other"])[name]
        assert angles.renderers[index].glyph.line_color == nmse.renderers[index].glyph.line_color == colour  # type: ignore[union-attr]
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
