"""Reads a stream of a Rust function, and gives credit for what it has taken.

    cargo run --release --example server &
    python3 examples/python/stream.py [ENDPOINT]

A REQ socket gets the same items as one list: it need not ask for a stream.
"""

import sys

import msgpack
import zmq

WINDOW = 4096  # the bytes of items that may be on their way


def items(socket, function, *arguments, msgid=1):
    """Yields the items of a call. Raises an error with that of the call."""
    socket.send(msgpack.packb([0, msgid, function, {"stream": WINDOW}, arguments]))
    taken = 0
    while True:
        body = socket.recv()
        kind, *message = msgpack.unpackb(body)
        if kind == 1:
            _, error, result = message
            if error is not None:
                raise RuntimeError(error)
            if result is not None:
                raise RuntimeError("the function returns no stream")
            return
        _, (_, *values) = message
        yield from values
        taken += len(body)
        if taken >= WINDOW // 2:
            socket.send(msgpack.packb([2, "rpc.credit", [msgid, taken]]))
            taken = 0


if __name__ == "__main__":
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    s = zmq.Context.instance().socket(zmq.DEALER)
    s.linger = 0
    s.rcvtimeo = 30_000  # ms; zmq.Again if nothing comes
    s.connect(endpoint)
    primes = list(items(s, "primes", 10_000))
    print(f"{len(primes)} primes below 10,000, the last one is {primes[-1]}")
