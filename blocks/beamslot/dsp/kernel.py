"""Which compiled form of the search for paths this machine runs, if any.

The wheel holds one module an instruction set. BEAMSLOT_KERNEL chooses another than the best: "avx2", "baseline", or
"numpy" for the reference in `path_search`.
"""

import os
from functools import cache
from importlib import import_module
from typing import Any

from beamslot.errors import BadParam

NUMPY = "numpy"


@cache
def variants() -> tuple[str, ...]:
    """Return the forms that can run here, fastest first; the last is NumPy's."""
    try:
        found: list[str] = _module("baseline").variants()
    except ImportError:
        return (NUMPY,)
    return (*found, NUMPY)


def load(variant: str | None = None) -> Any:
    """Return the module of a variant, None for the NumPy form.

    variant: one of `variants`; None takes BEAMSLOT_KERNEL, else the fastest
    raises BadParam for one that does not run here
    """
    wanted = variant or os.environ.get("BEAMSLOT_KERNEL") or variants()[0]
    if wanted not in variants():
        raise BadParam(f"kernel {wanted!r} does not run here; wanted one of {', '.join(variants())}")
    return None if wanted == NUMPY else _module(wanted)


def _module(variant: str) -> Any:
    return import_module(f"beamslot.dsp._vp_nomp_{variant}")
