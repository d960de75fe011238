"""The page of a running graph in a browser: what `beamslot view` serves.

`data.py` makes columns of arrays, `listening.py` hears the taps, `watch.py` keeps what a run shows, in a thread of its
own, `parameters.py` among it what may be changed; `graph.py` and `panels.py` draw what is HTML, `plots.py` what is a
plot; `knobs.py` says what the control of a parameter looks like, `controls.py` makes it, and `wheel.py` asks the run,
in a thread too. `page.py` puts a page together, and `server.py` serves it. Looking alone says nothing to the run.
"""
