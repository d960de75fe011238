"""The one table of blocks: the id that a flowgraph writes, and the class that it stands for, imported when asked for.

Blocks of one's own come in by two doors, and need no change here: Python files (`load_blocks`, the command line's
--blocks) and the entry-point group "beamslot.blocks" of installed packages. An id of one's own file stands before the
same id of the table, so that a changed copy of a block can be tried; an installed package cannot hide the table.
"""

import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from beamslot.errors import FlowgraphError, UnknownBlock
from beamslot.runtime.block import Block
from beamslot.runtime.graph import near

CATALOGUE: dict[str, str] = {
    "angle_sink": "beamslot.sinks.angle_sink:AngleSink",
    "calibration": "beamslot.beamformers.calibration:Calibration",
    "clock_drift": "beamslot.faults.clock_drift:ClockDrift",
    "combiner": "beamslot.beamformers.combiner:Combiner",
    "compare_sink": "beamslot.sinks.compare_sink:CompareSink",
    "dead_chain": "beamslot.faults.dead_chain:DeadChain",
    "difference_sink": "beamslot.sinks.difference_sink:DifferenceSink",
    "doa": "beamslot.estimators.doa:DoaEstimator",
    "drift_alarm": "beamslot.sinks.drift_alarm:DriftAlarm",
    "gnuradio_sink": "beamslot.sinks.gnuradio_sink:GnuradioSink",
    "gnuradio_source": "beamslot.sources.gnuradio_source:GnuradioSource",
    "gw_sc_vbi": "beamslot.estimators.gw_sc_vbi:GwScVbiEstimator",
    "gw_tracker": "beamslot.estimators.gw_tracker:GwTrackerEstimator",
    "head": "beamslot.sinks.head:Head",
    "interference": "beamslot.faults.interference:Interference",
    "iq_imbalance": "beamslot.faults.iq_imbalance:IqImbalance",
    "iq_source": "beamslot.sources.iq_source:IqSource",
    "jsonl_sink": "beamslot.sinks.jsonl_sink:JsonlSink",
    "lost_slots": "beamslot.faults.lost_slots:LostSlots",
    "nmse_sink": "beamslot.sinks.nmse_sink:NmseSink",
    "nomp": "beamslot.estimators.nomp:NompEstimator",
    "null_sink": "beamslot.sinks.null_sink:NullSink",
    "omp": "beamslot.estimators.omp:OmpEstimator",
    "oracle_ls": "beamslot.estimators.oracle_ls:OracleLsEstimator",
    "oracle_mmse": "beamslot.estimators.oracle_mmse:OracleMmseEstimator",
    "phase_calibrator": "beamslot.estimators.phase_calibrator:PhaseCalibratorBlock",
    "phase_noise": "beamslot.faults.phase_noise:PhaseNoise",
    "quality_sink": "beamslot.sinks.quality_sink:QualitySink",
    "quantiser": "beamslot.faults.quantiser:Quantiser",
    "recorder": "beamslot.sinks.recorder:Recorder",
    "remote_sink": "beamslot.sinks.remote_sink:RemoteSink",
    "remote_source": "beamslot.sources.remote_source:RemoteSource",
    "replay_source": "beamslot.sources.replay_source:ReplaySource",
    "sc_vbi": "beamslot.estimators.sc_vbi:ScVbiEstimator",
    "srs_correlator": "beamslot.beamformers.srs_correlator:SrsCorrelator",
    "stuck_phase_shifter": "beamslot.faults.stuck_phase_shifter:StuckPhaseShifter",
    "turbo_vbi": "beamslot.estimators.turbo_vbi:TurboVbiEstimator",
    "ula_source": "beamslot.sources.ula_source:UlaSource",
    "umi_source": "beamslot.sources.umi_source:UmiSource",
    "upa_source": "beamslot.sources.upa_source:UpaSource",
    "vae_adapter": "beamslot.estimators.vae_adapter:VaeAdapter",
    "vae_ula": "beamslot.estimators.vae_ula:VaeUlaEstimator",
    "vae_upa": "beamslot.estimators.vae_upa:VaeUpaEstimator",
    "vp_nomp": "beamslot.estimators.vp_nomp:VpNompEstimator",
}

GROUP = "beamslot.blocks"
"""The entry-point group in which installed packages name their blocks: id = "module:Class"."""

NOTHING: Mapping[str, type[Block]] = MappingProxyType({})


def ids(extra: Mapping[str, type[Block]] = NOTHING) -> list[str]:
    """Return every id that a flowgraph may write, sorted.

    extra: blocks of one's own, by id
    """
    return sorted({*extra, *CATALOGUE, *_installed()})


def find(block_id: str, extra: Mapping[str, type[Block]] = NOTHING) -> type[Block]:
    """Return the class of a block id.

    extra: blocks of one's own, by id; they come first
    raises UnknownBlock with the nearest id; FlowgraphError where the class cannot be imported, saying why
    """
    if block_id in extra:
        return extra[block_id]
    if block_id in CATALOGUE:
        return _import(block_id, CATALOGUE[block_id])
    if block_id in _installed():
        return _import(block_id, _installed()[block_id].value)
    raise UnknownBlock(f"no block has the id {block_id!r}; {near(block_id, ids(extra))}")


@cache
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _import(block_id: str, target: str) -> type[Block]:
    module, _, name = target.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise FlowgraphError(f"block {block_id!r} needs the package {error.name!r}, which is not installed") from error
    except Exception as error:
        # What an installed package raises at its import is its own affair; here it is a block that cannot be had.
        raise FlowgraphError(f"block {block_id!r} cannot be imported from {target}: {_told(error)}") from error
    if not (inspect.isclass(found) and issubclass(found, Block)):
        raise FlowgraphError(f"block {block_id!r}: {target} is no Block")
    return found


def collect(blocks: Sequence[Path | str] | Mapping[str, type[Block]]) -> dict[str, type[Block]]:
    """Return blocks of one's own by id, given as Python files or as classes by id.

    raises FlowgraphError for all files at once
    """
    if isinstance(blocks, Mapping):
        return dict(blocks)
    found: dict[str, type[Block]] = {}
    problems: list[FlowgraphError] = []
    for file in blocks:
        try:
            loaded = load_blocks(file)
        except FlowgraphError as error:
            problems.append(error)
            continue
        problems += [FlowgraphError(f"{file}: block id {i!r} is also in another file") for i in loaded if i in found]
        found |= loaded
    if problems:
        raise FlowgraphError(*problems)
    return found


def load_blocks(file: Path | str) -> dict[str, type[Block]]:
    """Return the blocks that a Python file defines, by id: the class name in snake_case, OmpEstimator is omp_estimator.

    Running the file is what is asked for here; a flowgraph cannot ask for it. Classes that begin with an underscore
    are left out.
    raises FlowgraphError naming file:line where the file cannot be read or does not run, or defines no block
    """
    module = _run(Path(file))
    found: dict[str, type[Block]] = {}
    for name, value in vars(module).items():
        if name.startswith("_") or not _is_block_of(module, name, value):
            continue
        block_id = snake_case(name)
        if block_id in found:
            raise FlowgraphError(f"{file}: {found[block_id].__name__} and {name} have one id, {block_id!r}")
        found[block_id] = value
    if not found:
        raise FlowgraphError(f"{file}: defines no block; wanted a class derived from beamslot.Block")
    return found


def _is_block_of(module: ModuleType, name: str, value: Any) -> bool:
    if not (inspect.isclass(value) and issubclass(value, Block)):
        return False
    return value.__module__ == module.__name__ and value.__name__ == name


def snake_case(name: str) -> str:
    """Return the block id of a class name.

    >>> snake_case("OmpEstimator"), snake_case("UPASource"), snake_case("Ls2Estimator")
    ('omp_estimator', 'upa_source', 'ls2_estimator')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _run(file: Path) -> ModuleType:
    name = f"beamslot_blocks_{file.stem}_{hashlib.blake2b(str(file.resolve()).encode(), digest_size=4).hexdigest()}"
    loader = SourceFileLoader(name, str(file))
    module = ModuleType(name)
    module.__file__ = str(file)
    # pydantic looks up the module by name to resolve annotations; a file that fails leaves nothing behind.
    sys.modules[name] = module
    try:
        # Compiled here and not by the loader: its bytecode cache goes by whole seconds, and leaves files behind.
        exec(loader.source_to_code(loader.get_data(str(file)), str(file)), vars(module))  # noqa: S102
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise FlowgraphError(_failure(file, error)) from error
    return module


def _failure(file: Path, error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename == str(file):
        return f"{file}: cannot be read: {(error.strerror or str(error)).lower()}"
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}:{error.lineno or 1}: not Python: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}:{(lines or [1])[-1]}: does not run: {_told(error)}"


def _told(error: BaseException) -> str:
    """Return the kind of an exception and the first line of what it says; every problem is told in one line."""
    return f"{type(error).__name__}: {[*str(error).splitlines(), ''][0]}"
