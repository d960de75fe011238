"""The command line: which configuration, with which changes, where to."""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from beamslot.errors import BeamslotError
from train_vae import settings
from train_vae.log import CSV, Report
from train_vae.trainers import TRAINERS, trainer

_EPILOG = """\
examples
  python tools/train_vae quick.yml                                  minutes on a CPU
  python tools/train_vae paper.yml --set scene.snr_db=0             the paper's configuration at 0 dB
  python tools/train_vae quick.yml --set method=supervised          another method, all else as it is
  torchrun --nproc-per-node 4 tools/train_vae paper.yml             four GPUs, or processes

kinds: {kinds}; configurations that come with the tool: {configs}
A training that was stopped (Ctrl-C saves it) goes on with the same command. In OUT: log.csv, TensorBoard where it is
installed, the state, and at the end the model and its accuracy.
"""

_ENDINGS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        return _train(arguments, console)
    except BeamslotError as error:
        for line in str(error).splitlines():
            console.print(f"train_vae: {line}", highlight=False, markup=False, soft_wrap=True)
        return 2


def _parser() -> argparse.ArgumentParser:
    configs = ", ".join(sorted(path.name for path in settings.CONFIGS.glob("*.yml")))
    parser = argparse.ArgumentParser(
        "train_vae",
        description="Train a variational auto-encoder by a configuration file.",
        epilog=_EPILOG.format(kinds=", ".join(TRAINERS), configs=configs),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG.yml", help="a file, or one that comes with the tool")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value; may be repeated"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="(out/train-vae/CONFIG)")
    parser.add_argument("--fresh", action="store_true", help="begin anew what was begun")
    return parser


def _train(arguments: argparse.Namespace, console: Console) -> int:
    found = settings.read(arguments.config, arguments.set)
    chosen = trainer(found.get("kind"))
    config = settings.checked(chosen.Config, found, arguments.config)
    out: Path = arguments.out or Path("out/train-vae") / Path(arguments.config).stem
    leads = os.environ.get("RANK", "0") == "0"
    out.mkdir(parents=True, exist_ok=True)
    if arguments.fresh and leads:
        for path in (*out.glob("*.safetensors"), out / CSV):
            path.unlink(missing_ok=True)
    with Report(out, console, leads=leads) as report, _Endings(report):
        try:
            chosen.train(config, out, report)
        except KeyboardInterrupt:
            console.print(f"stopped; the state is kept in {out}, the same command goes on", highlight=False)
            return 130
    return 0


class _Endings:
    """While it is open, a signal to end asks for a stop between two steps; a second one ends the training now."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __enter__(self) -> None:
        self._before = {one: signal.signal(one, self._asked) for one in _ENDINGS}

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _asked(self, *_: object) -> None:
        # torchrun sends a second signal of its own after that of the terminal.
        if self.report.stopping and "LOCAL_RANK" not in os.environ:
            raise KeyboardInterrupt
        self.report.stopping = True
