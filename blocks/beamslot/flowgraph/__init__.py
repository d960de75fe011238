"""Flowgraphs: YAML files that say which blocks there are, how they are set, and what flows where.

    options:
      parameters: {id: demo, slots: 200, slot_period: 1e-3, pace: max}
    variables:
      n_y: 64
      antennas: n_y * 72
    blocks:
    - name: source
      id: upa_source
      parameters: {users: 1}
      states: {state: enabled}
    connections:
    - [source, field, combiner, field]
    metadata: {file_format: 1}

They are shaped like the files of GNU Radio Companion. What a value means is said in `values`, what an expression may
hold in `expressions`; a flowgraph can run no code.
"""

from beamslot.flowgraph.editor import schema
from beamslot.flowgraph.loading import load

__all__ = ["load", "schema"]
