"""Counts the words of a text with the Rust server, from several threads.

    cargo run --release --example server &
    python3 examples/python/count_words.py [FILE] [--server ENDPOINT]
"""

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import zmq

TIMEOUT_MS = 10_000
THREADS = 4
WORDS_PER_CALL = 5_000


class CallError(Exception):
    """What a call ended with instead of a result."""


def call(endpoint, function, *params):
    """Calls a function and waits for its result."""
    # A socket belongs to one thread, and one whose reply did not come cannot be used again: each call has its own.
    with zmq.Context.instance().socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
        socket.setsockopt(zmq.SNDTIMEO, TIMEOUT_MS)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        try:
            socket.send(msgpack.packb([0, 1, function, params]))
            _, _, error, result = msgpack.unpackb(socket.recv())
        except zmq.Again:
            raise CallError(f"{function} at {endpoint}: no answer within {TIMEOUT_MS} ms") from None
    if error is not None:
        raise CallError(f"{function} at {endpoint}: {error['code']}: {error['message']}")
    return result


def main():
    parser = argparse.ArgumentParser(description="Counts the words of a text.")
    parser.add_argument("file", nargs="?", default=Path(__file__).parents[2] / "README.md", type=Path)
    parser.add_argument("--server", default="tcp://127.0.0.1:5555", metavar="ENDPOINT")
    options = parser.parse_args()

    words = options.file.read_text(encoding="utf-8").split()
    tasks = [" ".join(words[i : i + WORDS_PER_CALL]) for i in range(0, len(words), WORDS_PER_CALL)]

    counts = Counter()
    with ThreadPoolExecutor(THREADS) as threads:
        for result in threads.map(lambda text: call(options.server, "count_words", text), tasks):
            counts.update(result)

    for word, count in counts.most_common(10):
        print(f"{count:>10}  {word}")
    print(f"{counts.total()} words, {len(counts)} different, {len(tasks)} calls")


if __name__ == "__main__":
    try:
        main()
    except (CallError, OSError) as error:
        sys.exit(f"error: {error}")
