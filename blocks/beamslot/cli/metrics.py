"""`beamslot metrics`: what runs, for Prometheus."""

import argparse
import signal
from importlib.util import find_spec

from beamslot.cli import options

LOOPBACK = "127.0.0.1"


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs,
        "metrics",
        _act,
        "serve the figures of running graphs to Prometheus until interrupted (a dashboard: tools/grafana.json)",
        "beamslot metrics --port 9464",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", default="", help="only this one, by name or pid")
    parser.add_argument("--port", type=options.natural, default=9464, metavar="N", help="where (9464; 0: a free one)")
    parser.add_argument("--address", default=LOOPBACK, metavar="HOST", help="whom to serve (this machine only)")
    parser.add_argument("--once", action="store_true", help="print the figures instead")
    parser.add_argument("--list", action="store_true", help="tell which there are")


def _act(arguments: argparse.Namespace) -> int:
    from beamslot import metrics
    from beamslot.errors import BadParam, BindError

    if arguments.list:
        print(listed())
        return 0
    if find_spec("prometheus_client") is None:
        raise BadParam("metrics: prometheus_client is not installed; python -m pip install 'beamslot[metrics]'")
    if arguments.once:
        print(metrics.text(arguments.run), end="")
        return 0
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(metrics.Collector(arguments.run))  # pyright: ignore[reportArgumentType]
    try:
        server, thread = start_http_server(arguments.port, arguments.address, registry)
    except (OSError, OverflowError) as error:
        raise BindError(f"metrics: {arguments.address}:{arguments.port} cannot be served: {error}") from None
    signal.signal(signal.SIGTERM, lambda *_: server.shutdown())
    print(f"http://{arguments.address}:{server.server_port}/metrics", flush=True)
    try:
        thread.join()
    finally:
        server.shutdown()
        server.server_close()
    return 0


def listed() -> str:
    """Return the names, kinds, labels and meanings of all metrics as a table in Markdown."""
    from beamslot import metrics

    rows = [
        f"| `{name}{'_total' if kind == 'counter' else ''}` | {kind} | {', '.join(labels)} | {meaning} |"
        for name, (kind, labels, meaning) in metrics.NAMES.items()
    ]
    return "\n".join(["| name | kind | labels | meaning |", "|---|---|---|---|", *rows])
