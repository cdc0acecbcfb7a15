"""Counts the words of a text with calls to the Rust server, from several threads.

    cargo run --release --example server &
    python3 examples/python/count_words.py [FILE] [--server ENDPOINT]

Without a file, the program counts the words of its own source.
"""

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import msgpack
import zmq

THREADS = 4
WORDS_PER_CALL = 5_000
TIMEOUT_MS = 10_000


class CallError(Exception):
    """A call that has no result."""


def call(socket, function, *params):
    """Calls a function and waits for its result."""
    socket.send(msgpack.packb([0, 1, function, params]))
    try:
        _, _, error, result = msgpack.unpackb(socket.recv())
    except zmq.Again:
        raise CallError(f"{function}: no answer within {TIMEOUT_MS} ms") from None
    if error is not None:
        raise CallError(f"{function}: {error['code']}: {error['message']}")
    return result


def count(endpoint, texts):
    """Counts the words of some texts. Each thread calls this once, and opens its own socket.

    ZeroMQ sockets must not be shared between threads.
    """
    counts = Counter()
    with zmq.Context.instance().socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
        # Unsent messages must not keep the program from exiting.
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        for text in texts:
            counts.update(call(socket, "count_words", text))
    return counts


def main():
    parser = argparse.ArgumentParser(description="Counts the words of a text with the Rust server.")
    parser.add_argument("file", nargs="?", default=__file__)
    parser.add_argument("--server", default="tcp://127.0.0.1:5555", metavar="ENDPOINT")
    options = parser.parse_args()

    with open(options.file, encoding="utf-8") as file:
        words = file.read().split()
    texts = [" ".join(words[i : i + WORDS_PER_CALL]) for i in range(0, len(words), WORDS_PER_CALL)]

    counts = Counter()
    with ThreadPoolExecutor(THREADS) as threads:
        for some in threads.map(lambda n: count(options.server, texts[n::THREADS]), range(THREADS)):
            counts.update(some)

    for word, times in counts.most_common(10):
        print(f"{times:>8}  {word}")
    print(f"{sum(counts.values())} words, {len(counts)} different, {len(texts)} calls")


if __name__ == "__main__":
    try:
        main()
    except (CallError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: {error}")
