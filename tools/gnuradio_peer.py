#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GNU Radio side of a link: a small flowgraph between ZMQ blocks, its own process, under GNU Radio's own Python.

    /usr/bin/python3 tools/gnuradio_peer.py loop --from tcp://127.0.0.1:5600 --to tcp://127.0.0.1:5601 --vlen 16 --tags
    /usr/bin/python3 tools/gnuradio_peer.py loop ... --gain 0.5        something of your own may stand in the middle

loop: a ZMQ source, a gain, a ZMQ sink    send: counted samples to a ZMQ sink    keep: a ZMQ source into an .npz file
drain: a ZMQ source into nothing, and how many items a second came    serve: any of these, again and again
GNU Radio's sinks wait for whoever connects, and its sources connect. It knows nothing of beamslot, and beamslot does
not import it: this file alone does, and is under GNU Radio's licence.
"""

import argparse
import json
import os
import select
import signal
import socket
import sys
import time
import traceback

import numpy as np
import pmt

from gnuradio import blocks, gr, zeromq

TIMEOUT = 20
"""A work call of a ZMQ block waits so long for its socket [ms]."""


def main(argv=None):
    """Build the flowgraph that the command line asks for and run it until it is done, or told to stop."""
    asked = parser().parse_args(argv)
    if asked.what == "serve":
        serve(asked.sink)
        return
    top = gr.top_block()
    asked.begin, asked.done, asked.end, asked.tick = (lambda: None), (lambda: False), (lambda: None), 0.01
    {"loop": loop, "send": send, "keep": keep, "drain": drain}[asked.what](top, asked)
    told = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda caught, _: told.append(caught))
    print("ready", os.getpid(), flush=True)
    if asked.wait_for_line:
        sys.stdin.readline()
    top.start()
    asked.begin()
    while not told and not asked.done():
        time.sleep(asked.tick)
    top.stop()
    top.wait()
    asked.end()


def parser():
    """Return the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", choices=["loop", "send", "keep", "drain", "serve"])
    made.add_argument("--from", dest="source", metavar="ENDPOINT", help="what its source connects to")
    made.add_argument("--file", help="samples to keep from, cf32, in the place of a ZMQ source")
    made.add_argument("--to", dest="sink", metavar="ENDPOINT", help="where its sink, or serve, waits")
    made.add_argument("--take", choices=["pull", "sub", "req"], default="pull", help="its source (pull)")
    made.add_argument("--give", choices=["push", "pub", "rep"], default="push", help="its sink (push)")
    made.add_argument("--vlen", type=int, default=1, help="samples of an item (1)")
    made.add_argument("--tags", action="store_true", help="pass tags")
    made.add_argument("--key", default="", help="of PUB and SUB")
    made.add_argument("--messages", action="store_true", help="PDUs instead of a stream")
    made.add_argument("--gain", type=complex, default=None, help="of the loop")
    made.add_argument("--count", type=int, default=0, help="items to send or keep")
    made.add_argument("--per-slot", type=int, default=1, help="a tag stands at every so many items sent (1)")
    made.add_argument("--repeat", action="store_true", help="send them again and again")
    made.add_argument("--rate", type=float, default=0.0, help="items a second; 0: as fast as it goes")
    made.add_argument("--out", help="file to keep items and tags in, .npz")
    made.add_argument("--wait-for-line", action="store_true", help="begin when a line comes on standard input")
    return made


def serve(path):
    """Run what each connection to a Unix socket asks for, in a process that is forked for it: GNU Radio loads slowly.

    A connection begins with a line, the command line as JSON. Then it is standard input and output of the process, and
    says "done" at the end. All this ends when our own standard input does.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("ready", os.getpid(), flush=True)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        link, _ = listener.accept()
        if not os.fork():
            listener.close()
            for number in range(3):
                os.dup2(link.fileno(), number)
            link.close()
            try:
                main(json.loads(sys.stdin.readline()))
                print("done", flush=True)
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(0)  # threads of GNU Radio that an orderly exit would wait for are not there after a fork
        link.close()


def source(asked):
    """Return the ZMQ source."""
    if asked.messages:
        kinds = {"pull": zeromq.pull_msg_source, "sub": zeromq.sub_msg_source, "req": zeromq.req_msg_source}
        return kinds[asked.take](asked.source, TIMEOUT)
    kinds = {"pull": zeromq.pull_source, "sub": zeromq.sub_source, "req": zeromq.req_source}
    keyed = [asked.key] if asked.take == "sub" else []
    return kinds[asked.take](gr.sizeof_gr_complex, asked.vlen, asked.source, TIMEOUT, asked.tags, -1, *keyed)


def sink(asked):
    """Return the ZMQ sink; a PUB sink does not drop."""
    if asked.messages:
        kinds = {"push": zeromq.push_msg_sink, "pub": zeromq.pub_msg_sink, "rep": zeromq.rep_msg_sink}
        return kinds[asked.give](asked.sink, TIMEOUT)
    kinds = {"push": zeromq.push_sink, "pub": zeromq.pub_sink, "rep": zeromq.rep_sink}
    keyed = [asked.key, False] if asked.give == "pub" else []
    return kinds[asked.give](gr.sizeof_gr_complex, asked.vlen, asked.sink, TIMEOUT, asked.tags, -1, *keyed)


def loop(top, asked):
    """Give what comes, times a gain."""
    ends = source(asked), sink(asked)
    if asked.messages:
        top.msg_connect((ends[0], "out"), (ends[1], "in"))
    elif asked.gain is None:
        top.connect(*ends)
    else:
        top.connect(ends[0], blocks.multiply_const_vcc([asked.gain] * asked.vlen), ends[1])


def send(top, asked):
    """Send items k = 0, 1, ...: sample s of item k is k + s j; a tag `slot` at every slot, rx_... at the first."""
    if asked.messages:
        send_messages(top, asked)
        return
    items = np.arange(asked.count)[:, None] + 1j * np.arange(asked.vlen)
    tags = [tag(at, "slot", pmt.from_long(at // asked.per_slot)) for at in range(0, asked.count, asked.per_slot)]
    tags.append(tag(0, "rx_time", pmt.make_tuple(pmt.from_uint64(3), pmt.from_double(0.25))))
    tags.append(tag(0, "rx_rate", pmt.from_double(1000.0 * asked.per_slot)))
    tags.append(tag(0, "rx_freq", pmt.from_double(3.5e9)))
    made = blocks.vector_source_c(items.reshape(-1).astype(np.complex64), asked.repeat, asked.vlen, tags)
    chain = [made, sink(asked)]
    if asked.rate:
        chain.insert(1, blocks.throttle(gr.sizeof_gr_complex * asked.vlen, asked.rate))
    top.connect(*chain)


def tag(offset, key, value):
    """Return a tag for a vector source."""
    made = gr.tag_t()
    made.offset, made.key, made.value, made.srcid = offset, pmt.intern(key), value, pmt.intern("peer")
    return made


class Poster(gr.basic_block):
    """A block whose messages are posted from outside."""

    def __init__(self):
        gr.basic_block.__init__(self, name="poster", in_sig=None, out_sig=None)
        self.message_port_register_out(pmt.intern("out"))

    def post(self, message):
        """Send a message on."""
        self.message_port_pub(pmt.intern("out"), message)


def send_messages(top, asked):
    """Send PDUs of one item each, with its number as `slot` in the dict."""
    poster = Poster()
    top.msg_connect((poster, "out"), (sink(asked), "in"))

    def post():
        for k in range(asked.count):
            meta = pmt.dict_add(pmt.make_dict(), pmt.intern("slot"), pmt.from_long(k))
            meta = pmt.dict_add(meta, pmt.intern("who"), pmt.intern("peer"))
            item = (k + 1j * np.arange(asked.vlen)).astype(np.complex64)
            poster.post(pmt.cons(meta, pmt.init_c32vector(asked.vlen, item)))

    asked.begin = post


def drain(top, asked):
    """Let items go, and print how many a second came between the first and the last that were asked for."""
    end = blocks.null_sink(gr.sizeof_gr_complex * asked.vlen)
    top.connect(source(asked), end)
    seen = []

    def done():
        items, now = end.nitems_read(0), time.monotonic()
        if items and (not seen or items >= asked.count):
            seen.append((items, now))
        return len(seen) > 1

    def told():
        (first, begun), (last, ended) = seen
        print(json.dumps({"rate": (last - first) / (ended - begun)}), flush=True)

    asked.done, asked.end, asked.tick = done, told, 1e-3


class Recorder(gr.sync_block):
    """A block that keeps the items and tags that come; a vector_sink gives items one by one, which takes seconds."""

    def __init__(self, vlen):
        gr.sync_block.__init__(self, name="recorder", in_sig=[(np.complex64, vlen)], out_sig=None)
        self.items, self.tags = [], []

    def work(self, input_items, output_items):
        """Keep some."""
        came = input_items[0]
        self.items.append(came.copy())
        self.tags += self.get_tags_in_window(0, 0, len(came))
        return len(came)


class Keeper(gr.basic_block):
    """A block that keeps the messages that come."""

    def __init__(self):
        gr.basic_block.__init__(self, name="keeper", in_sig=None, out_sig=None)
        self.kept = []
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self.keep)

    def keep(self, message):
        """Keep one."""
        self.kept.append((pmt.to_python(pmt.car(message)), np.array(pmt.c32vector_elements(pmt.cdr(message)))))


def keep(top, asked):
    """Keep items and tags, and write them when there are as many as asked for, or when it is stopped."""
    if asked.messages:
        keep_messages(top, asked)
        return
    kept = Recorder(asked.vlen)
    size = gr.sizeof_gr_complex * asked.vlen
    read = blocks.file_source(size, asked.file, False) if asked.file else source(asked)
    top.connect(read, blocks.head(size, asked.count), kept)

    def write():
        tags = [[one.offset, pmt.symbol_to_string(one.key), plain(one.value)] for one in kept.tags]
        items = np.concatenate(kept.items).reshape(-1, asked.vlen)
        np.savez(asked.out, items=items, tags=np.array(json.dumps(tags)))

    asked.done, asked.end = (lambda: kept.nitems_read(0) >= asked.count), write


def keep_messages(top, asked):
    """Keep PDUs."""
    keeper = Keeper()
    top.msg_connect((source(asked), "out"), (keeper, "in"))

    def write():
        metas = json.dumps([{key: plain_value(value) for key, value in meta.items()} for meta, _ in keeper.kept])
        np.savez(asked.out, items=np.array([item for _, item in keeper.kept]), tags=np.array(metas))

    asked.done, asked.end = (lambda: len(keeper.kept) >= asked.count), write


def plain(value):
    """Return a PMT as JSON can hold it."""
    return plain_value(pmt.to_python(value))


def plain_value(value):
    """Return what to_python gave as JSON can hold it."""
    return list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    main()
