"""Reproduces figures 2 to 7 of paper 000 with beamslot: scenes, methods, trainings, cells, figures, one command.

| module | what |
|---|---|
| scene | frames, every chunk keyed by its number |
| methods | the one table of estimators, nets and bounds, by name |
| nets | trainings by `train_vae`, each once, and estimates by what they made |
| measures | what is kept of every frame |
| landscape | figs. 2 to 4: the loss itself, exact |
| experiments | which lines each figure has, and what the paper says of them |
| runner | works through trainings and cells, in several processes |
| report | heads and captions of CSV and PNG |
| figures | the files |
| command | the command line |

The store of cells and the intervals are those of `paper_hbf`.
"""
