"""`beamslot view`: a running graph as a page in the browser."""

import argparse
import os
import sys
from importlib.util import find_spec

from beamslot.cli import options

PORT = 5006
LOOPBACK = "127.0.0.1"


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs,
        "view",
        _act,
        "show a running graph in the browser and steer it: rates, angles, channels, NMSE, latencies; until interrupted",
        "beamslot view live",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", default="", help="which, by name or pid (the newest)")
    parser.add_argument("--port", type=options.natural, default=PORT, metavar="N", help=f"where ({PORT}; 0: free)")
    parser.add_argument(
        "--address",
        default=LOOPBACK,
        metavar="HOST",
        help="whom to serve (this machine only); others need the token of the address, as does to change anything",
    )
    parser.add_argument("--read-only", action="store_true", help="a page that shows all and can change nothing")
    parser.add_argument("--no-open", action="store_true", help="open no browser, only print the address")


def _act(arguments: argparse.Namespace) -> int:
    from beamslot.errors import BadParam
    from beamslot.runtime import observe, rundir

    if find_spec("bokeh") is None:
        raise BadParam("view: bokeh is not installed; python -m pip install 'beamslot[view]'")
    card = observe.find(arguments.run, "view")
    others = sorted({run["name"] for run in rundir.runs()} - {card["name"]})
    from beamslot.view.server import Viewer

    viewer = Viewer(arguments.run, address=arguments.address, port=arguments.port, read_only=arguments.read_only)
    print(viewer.url, flush=True)
    also = f"; also running: {', '.join(others)}" if others else ""
    print(f"{card['name']} (pid {card['pid']}){also}", file=sys.stderr)
    if not arguments.no_open and _has_screen():
        import webbrowser

        webbrowser.open(viewer.url)
    viewer.serve()
    return 0


def _has_screen() -> bool:
    """Whether a browser would open a window; in a terminal one could take it over."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
