"""A server of plain MessagePack-RPC on a REP socket. Prints its endpoint, and serves until it is killed.

`rep_server.py ENDPOINT`
"""

import sys

import msgpack
import zmq

FUNCTIONS = {
    "add": lambda a, b: a + b,
    "echo": lambda data: data,
    "upper": lambda text: text.upper(),
}

s = zmq.Context.instance().socket(zmq.REP)
s.bind(sys.argv[1])
print(s.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
while True:
    kind, msgid, method, params = msgpack.unpackb(s.recv())
    try:
        reply = [1, msgid, None, FUNCTIONS[method](*params)]
    except Exception as error:
        reply = [1, msgid, repr(error), None]
    s.send(msgpack.packb(reply))
