"""The command line: `beamslot VERB ...`, one module a group of verbs; each imports what is heavy when it acts."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from beamslot.cli import (
    blocks,
    design,
    doctor,
    echo,
    graph,
    grc,
    keys,
    logs,
    metrics,
    probe,
    ps,
    record,
    replay,
    run,
    scaffold,
    steer,
    sweep,
    view,
)
from beamslot.cli.options import add_verb, let_go_of_stdout, print_json
from beamslot.errors import BeamslotError, FlowgraphError

FAILED, BAD_GRAPH, INTERRUPTED = 1, 2, 130

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Blocks are processes: threads of a linear algebra library inside each would only fight for the cores."""

TEACH = """\
what people do:
  beamslot run flowgraphs/demo.yml -p snr_db=10     run a graph and see what its estimators reach
  beamslot blocks gw_sc_vbi                         what a block takes, gives and can be set to
  beamslot new block my_estimator                   begin a block of your own, with its test and graph
  beamslot run flowgraphs/lab.yml --chaos 7         see what a graph does when its processes are killed

exit codes: 0 ok, 1 run failed, 2 bad graph or usage, 3 slots lost on a lossless edge, 130 interrupted
"""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from beamslot import __version__

        print(f"beamslot {__version__}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="beamslot",
        description="Streaming blocks for channel estimation behind hybrid beamforming.",
        epilog=TEACH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = top.add_subparsers(metavar="VERB", required=True, title="verbs")
    for group in (
        run,
        graph,
        blocks,
        scaffold,
        sweep,
        design,
        ps,
        echo,
        probe,
        steer,
        record,
        replay,
        metrics,
        view,
        logs,
        keys,
        grc,
        doctor,
    ):
        group.register(verbs)
    bench = add_verb(verbs, "bench", _bench, "measure what this machine does", "beamslot bench transport")
    bench.add_argument("arguments", nargs=argparse.REMAINDER, help="see beamslot bench --help")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    for name in THREADS:
        os.environ.setdefault(name, "1")
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given[:1] == ["bench"]:  # its options are its own
            return _bench(argparse.Namespace(arguments=given[1:]))
        arguments = parser().parse_args(given)
        return _act(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        let_go_of_stdout()
        return 0


def _act(arguments: argparse.Namespace) -> int:
    try:
        return arguments.act(arguments)
    except BeamslotError as error:
        code = BAD_GRAPH if isinstance(error, FlowgraphError) else FAILED
        print(error, file=sys.stderr)
        if getattr(arguments, "json", False):
            print_json({"ok": False, "exit_code": code, "problems": str(error).splitlines()})
        return code


def _bench(arguments: argparse.Namespace) -> int:
    from beamslot.bench import main as bench

    return bench(arguments.arguments) or 0
