"""The page of a running graph in a browser: what `beamslot view` serves.

`data.py` makes columns of arrays, `listening.py` hears the taps, `watch.py` keeps what a run shows, in a thread of its
own; `graph.py` and `panels.py` draw what is HTML, `plots.py` what is a plot, `page.py` puts a page together, and
`server.py` serves it. Nothing here speaks with the run: it is looked at, and its taps are lossy.
"""
