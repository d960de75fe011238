"""The benchmark beside GNU Radio runs; how fast this machine is, is not for a test to decide."""

from beamslot_gnuradio import needs_gnuradio

from beamslot.bench import gnuradio, transport


def test_rows_beside_gnuradio_are_measured() -> None:
    needs_gnuradio()
    assert gnuradio.available()
    (row,) = transport._gnuradio(1, 3000, "gnuradio_received_tagged")
    assert (row["name"], row["peer"], row["unit"]) == ("gnuradio_received_tagged", "gnuradio", "items/s")
    assert row["value"] > 0
    assert row["peer_value"] > 0


def test_one_item_there_and_back_is_timed() -> None:
    needs_gnuradio()
    (row,) = transport._gnuradio(1, 3000, "gnuradio_echo_p50")
    assert (row["unit"], row["runs"]) == ("us", 1)
    assert row["value"] > 0
