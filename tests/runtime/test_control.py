import socket
import threading

from hypothesis import given
from hypothesis import strategies as st

from beamslot.runtime.control import Control

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.lists(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: key not in {"kind", "self"}), VALUES))
)
def test_messages_arrive_as_they_were_sent_and_in_order(sent: list[dict[str, object]]) -> None:
    one, other = Control.pair()
    for number, fields in enumerate(sent):
        assert one.send(f"k{number}", **fields)
    assert other.receive() == [{"kind": f"k{number}", **fields} for number, fields in enumerate(sent)]
    assert not other.closed
    one.close()
    other.close()


def test_a_message_may_come_in_pieces() -> None:
    raw, mine = socket.socketpair()
    whole_sender, whole_receiver = Control.pair()
    whole_sender.send("status", slots=5)
    data = whole_receiver.socket.recv(1000)
    control = Control(mine)
    for index in range(len(data)):
        assert control.receive() == []
        raw.send(data[index : index + 1])
    assert control.receive() == [{"kind": "status", "slots": 5}]
    for end in (raw, control, whole_sender, whole_receiver):
        end.close()


def test_what_was_sent_before_the_other_side_died_still_arrives() -> None:
    one, other = Control.pair()
    one.send("failed", message="last words")
    one.close()
    assert other.receive() == [{"kind": "failed", "message": "last words"}]
    assert other.closed
    assert other.receive() == []
    other.close()


def test_sending_to_the_dead_says_so_and_does_not_raise() -> None:
    one, other = Control.pair()
    other.close()
    assert not one.send("status")
    assert one.receive() == []
    assert one.closed
    one.close()


def test_a_message_larger_than_the_buffer_of_the_socket_goes_through() -> None:
    one, other = Control.pair()
    big = "x" * 5_000_000
    sender = threading.Thread(target=one.send, args=("status",), kwargs={"text": big})
    sender.start()
    received: list[dict[str, object]] = []
    while not received:
        received += other.receive()
    sender.join()
    assert received == [{"kind": "status", "text": big}]
    one.close()
    other.close()


def test_a_side_that_does_not_read_is_noticed_before_a_send_would_wait() -> None:
    one, other = Control.pair()
    sent = 0
    while one.free:
        one.send("status", text="x" * 2000)
        sent += 1
        assert sent < 10_000
    assert len(other.receive()) == sent
    assert one.free
    one.close()
    other.close()


def test_what_the_other_side_said_before_it_went_is_read_after_a_send_that_failed() -> None:
    one, other = Control.pair()
    other.send("ended", code=0)
    other.close()
    assert not one.send("halt")
    assert one.receive() == [{"kind": "ended", "code": 0}]
    assert one.closed
    one.close()
