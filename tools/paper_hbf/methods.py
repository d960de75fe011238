"""The one table of what is compared: estimators, oracles and the bound, by name.

A class is imported when it is first asked for; a method whose module this version of beamslot lacks is left out, and
the command says so.
"""

import ast
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.channel import Paths
from beamslot.dsp.estimate import Estimate
from beamslot.frame import Geometry, Operator


class Estimator(Protocol):
    """What a factory returns."""

    def estimate(self, observation: NDArray[Any]) -> Estimate:
        """Return the channels of a batch, (draw, y, chain)."""
        ...


@dataclass(frozen=True)
class Method:
    """One line of a figure.

    label: as in the legends    target: "module:Class", called with (geometry, operator, **options)
    truth: what an oracle is told besides the observations
    slow: hundreds of milliseconds a slot or more, so that it gets fewer draws
    """

    label: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    truth: tuple[str, ...] = ()
    slow: bool = False

    @property
    def module(self) -> str:
        """Where the class is."""
        return self.target.partition(":")[0]

    def __call__(self, geometry: Geometry, operator: Operator) -> Any:
        """Return the estimator of an array behind an operator."""
        _, _, name = self.target.partition(":")
        return getattr(import_module(self.module), name)(geometry, operator, **self.options)


_GW = "beamslot.dsp.gw_sc_vbi:GwScVbi"
_OMP = "beamslot.dsp.omp:Omp"
_VP_NOMP = "beamslot.dsp.vp_nomp:VpNomp"
_KERNEL = "beamslot.dsp.kernel"

METHODS: dict[str, Method] = {
    "omp": Method("OMP, refined peaks", _OMP, {"paths": 32}),
    "omp_grid": Method("OMP, 128 x 36 grid", _OMP, {"paths": 32, "zoom": 0}),
    "omp_fine": Method("OMP, 256 x 72 grid", _OMP, {"paths": 32, "zoom": 0, "grid": (256, 72)}),
    "omp_finest": Method("OMP, 512 x 144 grid", _OMP, {"paths": 32, "zoom": 0, "grid": (512, 144)}),
    "nomp": Method("NOMP", "beamslot.dsp.nomp:Nomp"),
    "turbo_vbi": Method("Turbo-VBI", "beamslot.dsp.turbo_vbi:TurboVbi", slow=True),
    "sc_vbi": Method("SC-VBI", "beamslot.dsp.sc_vbi:ScVbi"),
    "gw_sc_vbi": Method("GW-SC-VBI, robust", _GW),
    "gw_sc_vbi_printed": Method("GW-SC-VBI, as printed", _GW, {"form": "as_printed"}),
    "vp_nomp": Method("VP-NOMP", _VP_NOMP),
    "vp_nomp_numpy": Method("VP-NOMP, in NumPy", _VP_NOMP, {"variant": "numpy"}),
    "oracle_ls": Method("oracle LS (true angles)", "beamslot.dsp.oracle_ls:OracleLs", truth=("u", "v", "mask")),
    "oracle_mmse": Method(
        "oracle MMSE (true angles, powers)", "beamslot.dsp.oracle_mmse:OracleMmse", truth=("power", "u", "v", "mask")
    ),
    "crb": Method("CRB", "beamslot.dsp.bounds:crb_channel"),
}
"""{name: factory(geometry, operator)}; "crb" is a bound and has no estimator."""


@cache
def available() -> tuple[str, ...]:
    """Return the names of the methods whose class can be imported."""
    return tuple(name for name in METHODS if name not in absent())


@cache
def absent() -> dict[str, str]:
    """Return why each of the other methods cannot be had."""
    found = dict[str, str]()
    for name, method in METHODS.items():
        try:
            getattr(import_module(method.module), method.target.partition(":")[2])
        except (ImportError, AttributeError) as error:
            found[name] = str(error)
    return found


def estimate(method: Method, estimator: Any, observation: NDArray[Any], paths: Paths) -> Estimate:
    """Return the estimate; oracles are told what they ask for."""
    known = {"u": paths.u, "v": paths.v, "mask": paths.mask, "power": np.abs(paths.gain) ** 2}
    return estimator.estimate(observation, **{name: known[name] for name in method.truth})


@cache
def fingerprint(module: str) -> str:
    """Return a hash of a module and all of beamslot.dsp that it imports; comments and layout do not count."""
    digest = hashlib.sha256()
    reached = sorted(_reached(module))
    for name in reached:
        digest.update(ast.dump(_tree(name)).encode())
    if _KERNEL in reached and (compiled := import_module(_KERNEL).load()) is not None:
        digest.update(Path(compiled.__file__).read_bytes())
    return digest.hexdigest()[:12]


def _reached(module: str) -> set[str]:
    found, waiting = set[str](), [module]
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += [one for node in ast.walk(_tree(name)) if isinstance(node, ast.ImportFrom) for one in _own(node)]
    return found


def _own(node: ast.ImportFrom) -> list[str]:
    """Return the modules of ours that `from ... import ...` reaches; of a package, those that it names."""
    module = node.module or ""
    if module in ("beamslot.dsp", "paper_hbf"):
        return [f"{module}.{alias.name}" for alias in node.names]
    return [module] if module.startswith(("beamslot.dsp.", "paper_hbf.")) else []


@cache
def _tree(module: str) -> ast.Module:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, module  # noqa: S101, PT018
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
