"""Calls a Rust function in three lines.

    cargo run --release --example server &
    python3 examples/python/three_lines.py [ENDPOINT]
"""

import sys

import msgpack
import zmq

ENDPOINT = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"

s = zmq.Context.instance().socket(zmq.REQ); s.connect(ENDPOINT)
s.send(msgpack.packb([0, 1, "count_words", ["a b a"]]))
_, _, error, result = msgpack.unpackb(s.recv())

print(error, result)
