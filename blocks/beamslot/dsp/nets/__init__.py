"""Nets: layers as plain data, checkpoints, serving, and what trains them; torch is imported by what trains only."""
