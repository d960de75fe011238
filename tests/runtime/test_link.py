"""A link between two machines that breaks and comes back: two network namespaces, joined by a cable that is pulled."""

import time

import zmq
from beamslot_netns import linked, reap

PULLED = 2.0
"""How long the link is down [s]."""


def test_a_link_that_was_down_is_in_use_within_a_second_of_its_return() -> None:
    ours, theirs = zmq.curve_keypair(), zmq.curve_keypair()
    keys = {"pour": [*ours, theirs[0]], "drink": [*theirs, ours[0]]}
    with linked() as pair:
        endpoint = f"tcp://{pair.addresses['left']}:5555"
        ends = [
            pair.python(
                side, f"import beamslot_netns as n; n.{act}({endpoint!r}, {[key.decode() for key in keys[act]]})"
            )
            for side, act in (("left", "pour"), ("right", "drink"))
        ]
        try:
            assert ends[1].stdout
            ends[1].stdout.readline()
            for side in ("left", "right"):
                pair.down(side)
                time.sleep(PULLED)
                pair.up(side)
                returned = time.monotonic()
                heard = next(at for at in map(float, ends[1].stdout) if at > returned)
                assert heard - returned < 1
        finally:
            reap(ends)
