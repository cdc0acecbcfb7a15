"""Makes calls and compares their results: `calls.py [NAME ENDPOINT FUNCTION ARGUMENTS RESULT]...`.

Arguments and results are Python source. A result may also be the data of an error.
"""

# Most of these are for the arguments.
import datetime  # noqa: F401
import decimal  # noqa: F401
import ipaddress  # noqa: F401
import pathlib  # noqa: F401
import sys
import uuid  # noqa: F401

import msgpack
import zmq

context = zmq.Context.instance()


def as_lists(value):
    """Bytes in a type around them, such as that of an error, travel as lists."""
    return list(value) if isinstance(value, bytes) else value


wrong = []
words = sys.argv[1:]
for name, endpoint, function, arguments, expected in zip(*[iter(words)] * 5):
    with context.socket(zmq.REQ) as s:
        s.setsockopt(zmq.LINGER, 0)
        s.setsockopt(zmq.RCVTIMEO, 20_000)
        s.connect(endpoint)
        s.send(msgpack.packb([0, 1, function, eval(arguments)]))
        response = s.recv()
    # Keys of maps may be of any type. A list can be no key, but a tuple can.
    try:
        _, _, error, result = msgpack.unpackb(response, strict_map_key=False)
    except TypeError:
        _, _, error, result = msgpack.unpackb(response, strict_map_key=False, use_list=False)
    if error is not None:
        result = error.get("data", error)
    wanted = eval(expected)
    if function in ("option", "fails"):
        result, wanted = as_lists(result), as_lists(wanted)
    if result != wanted:
        wrong.append(f"{name}: {function}({arguments}) is {result}, not {expected}")
assert not wrong, "\n".join(wrong)
assert words, "nothing was called"
