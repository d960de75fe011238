"""`beamslot view`: what it says where there is nothing to view, and what it prints where there is."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from beamslot.cli import view
from beamslot.errors import BadParam, PeerLost
from beamslot.runtime import rundir


def act(*words: str) -> int:
    parser = argparse.ArgumentParser()
    view.register(parser.add_subparsers())
    arguments = parser.parse_args(["view", *words])
    return arguments.act(arguments)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_where_nothing_runs_it_says_so() -> None:
    pytest.importorskip("bokeh")
    with pytest.raises(PeerLost, match="view: nothing runs"):
        act()


def test_without_bokeh_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "find_spec", lambda _: None)
    with pytest.raises(BadParam, match=r"bokeh is not installed; python -m pip install 'beamslot\[view\]'"):
        act()


def test_it_prints_where_the_page_is_and_what_else_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("bokeh") is None:
        pytest.skip("needs Bokeh")
    for name in ("lab", "live"):
        rundir.write_card(rundir.create(), name, {}, blocks={}, logs="")
    with pytest.raises(PeerLost, match="no run is called 'demo'; there is lab, live"):
        act("demo")

    from beamslot.view import server

    class Fixed:
        url = "http://127.0.0.1:1/"

        def __init__(self, wanted: str, **more: Any) -> None:
            assert (wanted, more) == ("", {"address": "127.0.0.1", "port": 0, "read_only": False})

        def serve(self) -> None:
            pass

    monkeypatch.setattr(server, "Viewer", Fixed)
    assert act("--no-open", "--port", "0") == 0
    said = capsys.readouterr()
    assert said.out == "http://127.0.0.1:1/\n"
    assert said.err.startswith("live (pid ")
    assert said.err.endswith("; also running: lab\n")
