"""GNU Radio on the other end of a ZeroMQ socket: its bytes, its sockets, and its samples as slots.

GNU Radio stays in its own process; nothing here imports it.
"""
