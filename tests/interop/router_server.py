"""A server of our protocol on a ROUTER socket, whose function reads the metadata of its call.

`router_server.py ENDPOINT` prints its endpoint, and serves until it is killed.
"""

import sys

import msgpack
import zmq


def tenant(options):
    return options.get("meta", {}).get("tenant")


FUNCTIONS = {
    "rpc.hello": lambda options, hello: {"protocol": 1, "max_message_size": 1 << 24},
    "rpc.ping": lambda options: None,
    "metadata": lambda options: [f"tenant={tenant(options)}"],
}

s = zmq.Context.instance().socket(zmq.ROUTER)
s.bind(sys.argv[1])
print(s.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
while True:
    *envelope, body = s.recv_multipart()
    kind, *message = msgpack.unpackb(body)
    if kind == 0:
        msgid, method, *options, params = message
        options = options[0] if options else {}
        s.send_multipart(envelope + [msgpack.packb([1, msgid, None, FUNCTIONS[method](options, *params)])])
