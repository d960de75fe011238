"""Reproduces the figures and the table of paper 004 with beamslot: scenes, methods, cells, figures, one command.

| module | what |
|---|---|
| scene | channels, beams and observations, every draw keyed by its number |
| methods | the one table of estimators and bounds, by name |
| measures | what is kept of every draw |
| store | cells on disk, so that an interrupted run goes on |
| runner | works through cells, in several processes |
| intervals | means and differences with their intervals |
| experiments | which cells each figure wants |
| design | the figures that need no channel: ambiguity functions, grouping |
| timing | Table I |
| report | CSV and PNG |
| command | the command line |
"""
