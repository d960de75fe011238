"""A small front end for tests of blocks: a 12 x 12 array, two users, four chains a column, made by the real blocks."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from beamslot.beamformers.combiner import Combiner
from beamslot.catalogue import find
from beamslot.estimators.oracle_ls import OracleLsEstimator
from beamslot.frame import StreamInfo
from beamslot.recording import Writer
from beamslot.runtime import Block
from beamslot.runtime.testing import Outcome, run_block
from beamslot.sources.iq_source import IqSource
from beamslot.sources.ula_source import UlaSource
from beamslot.sources.upa_source import UpaSource

SLOTS = 12
ARRAY = {"n_y": 12, "n_z": 12, "users": 2, "paths": 3, "snr_db": 15.0, "redraw": 3}

LINE = {"antennas": 12, "users": 2, "snapshots": 3, "separation": 0.2}
"""A line of antennas, for blocks that take frames of snapshots."""

PARAMETERS: dict[str, dict[str, Any]] = {
    "angle_sink": {"snapshots": 3},
    "calibration": {},
    "clock_drift": {},
    "combiner": {"antennas_per_chain": 3, "groups": 2},
    "compare_sink": {},
    "dead_chain": {"share": 0.3, "noise_var": 0.1},
    "difference_sink": {},
    "doa": {"snapshots": 3, "users": 2},
    "drift_alarm": {},
    "gnuradio_sink": {},
    "gw_sc_vbi": {},
    "gw_tracker": {"max_paths": 6},
    "head": {"slots": 7},
    "interference": {"duty": 0.5, "length": 3, "direction": (0.2, -0.3)},
    "iq_imbalance": {"begin": 4, "until": 7},
    "iq_source": {"timing_offset": 3e-7, "frequency_offset": 500.0},
    "jsonl_sink": {},
    "lost_slots": {"share": 0.3, "length": 2},
    "nmse_sink": {},
    "nomp": {"paths": 6},
    "null_sink": {},
    "omp": {"paths": 6, "grid": (24, 12)},
    "oracle_ls": {},
    "oracle_mmse": {},
    "phase_calibrator": {"snapshots": 3, "users": 2},
    "phase_noise": {"jitter": 0.1, "oscillators": "chain"},
    "quality_sink": {},
    "quantiser": {},
    "recorder": {"path": "recorded"},
    "replay_source": {},
    "sc_vbi": {"max_paths": 6},
    "srs_correlator": {},
    "stuck_phase_shifter": {"antennas_per_chain": 3, "groups": 2, "share": 0.2, "begin": 3},
    "turbo_vbi": {"max_paths": 6},
    "ula_source": LINE,
    "umi_source": {"n_y": 4, "n_z": 4, "users": 2, "redraw": 3},
    "upa_source": ARRAY,
    "vae_adapter": {"snapshots": 3, "replay": 0.0},
    "vae_ula": {"snapshots": 3, "users": 2},
    "vae_upa": {"max_paths": 6},
    "vp_nomp": {"max_paths": 6},
}
"""Parameters with which every block of the catalogue works on the scene."""


@dataclass(frozen=True)
class Scene:
    """Streams of the small front end, and what every block is fed from them."""

    source: Outcome
    combined: Outcome
    oracle: Outcome
    line: Outcome
    sampled: Outcome

    def feed(self, block: type[Block]) -> tuple[dict[str, Any], dict[str, StreamInfo]]:
        """Return inputs and infos for a block, by the names of its ports."""
        rf = {"rf": self.combined["rf"]}, self.combined.infos["rf"]
        streams = {
            "field": self._field(block),
            "truth": (self.source["truth"], self.source.infos["truth"]),
            "rf": (self.combined["rf"], self.combined.infos["rf"]),
            "iq": (self.sampled["iq"], self.sampled.infos["iq"]),
            "stream": rf,
            "streams": ({"combiner.rf": rf[0]}, rf[1]),
            "left": rf,
            "right": rf,
            "estimate": (self._estimate(block), self.oracle.infos["estimate"]),
        }
        chosen = {port: streams[port] for port in block.inputs}
        return {port: arrays for port, (arrays, _) in chosen.items()}, {
            port: info for port, (_, info) in chosen.items()
        }

    def _estimate(self, block: type[Block]) -> Any:
        port, estimate = block.inputs.get("estimate"), self.oracle["estimate"]
        return {"oracle.estimate": estimate} if port is not None and port.many else estimate

    def _field(self, block: type[Block]) -> tuple[Any, StreamInfo]:
        port = block.inputs.get("field")
        source = self.line if port is not None and port.window == "snapshots" else self.source
        return source["field"], source.infos["field"]


@lru_cache(maxsize=1)
def scene() -> Scene:
    """Return the scene."""
    source = run_block(UpaSource(**ARRAY), slots=SLOTS, seed=5, name="source")
    fed = {"field": source["field"]}, {"field": source.infos["field"]}
    combined = run_block(Combiner(**PARAMETERS["combiner"]), fed[0], infos=fed[1], name="combiner")
    inputs = {"rf": combined["rf"], "truth": source["truth"]}
    infos = {"rf": combined.infos["rf"], "truth": source.infos["truth"]}
    oracle = run_block(OracleLsEstimator(), inputs, infos=infos, name="oracle")
    line = run_block(UlaSource(**LINE), slots=SLOTS, seed=5, name="line")
    sampled = run_block(IqSource(**PARAMETERS["iq_source"]), inputs, infos=infos, name="iq_source")
    return Scene(source, combined, oracle, line, sampled)


def recording(path: str) -> str:
    """Write what the combiner says as a recording, unless it is there; return where it is."""
    if not Path(path).exists():
        with Writer(path, "combiner.rf") as writer:
            for _, item in scene().combined.items:
                writer.write(item)
    return path


def run_on_scene(block_id: str, *, burst: int = 1, seed: int = 3, **parameters: Any) -> tuple[Block, Outcome]:
    """Run a block of the catalogue on the scene."""
    kind = find(block_id)
    block = kind(**{**PARAMETERS[block_id], **parameters})
    inputs, infos = scene().feed(kind)
    return block, run_block(block, inputs, infos=infos, slots=SLOTS, burst=burst, seed=seed, name=block_id)
