"""Calls a Rust function in three lines.

    cargo run --release --example server &
    python3 examples/python/three_lines.py [ENDPOINT]

Without a server, the program waits forever. See count_words.py for a timeout.
"""

import sys

import msgpack
import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"

s = zmq.Context.instance().socket(zmq.REQ); s.connect(endpoint)
s.send(msgpack.packb([0, 1, "count_words", ["a b a"]]))
_, _, error, result = msgpack.unpackb(s.recv())

print(error or result)
