"""Peers with CURVE, made of pyzmq. Keys are texts of 40 characters.

peer.py req|dealer|batch ENDPOINT SERVER_KEY PUBLIC SECRET FUNCTION...
    Calls functions, and prints a line for each: its name, and `ok` or the code of the error.
peer.py refused ENDPOINT SERVER_KEY PUBLIC SECRET
    Calls a function, and prints `refused` if no answer comes within a second.
peer.py proxy ENDPOINT SERVER_KEY PUBLIC SECRET
    Passes on what plain clients send. Prints its endpoint.
peer.py server PUBLIC SECRET CLIENT_KEY
    A REP server of `add` that admits one key. Prints its endpoint.
"""

import sys
import tempfile
from pathlib import Path

import msgpack
import zmq
from zmq.auth.thread import ThreadAuthenticator

TIMEOUT_MS = 20_000
PARAMS = {"add": [1, 2]}
context = zmq.Context.instance()


def encrypted(kind, endpoint, server, public, secret):
    s = context.socket(kind)
    s.setsockopt(zmq.LINGER, 0)
    s.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
    s.curve_serverkey, s.curve_publickey, s.curve_secretkey = (key.encode() for key in (server, public, secret))
    s.connect(endpoint)
    return s


def request(msgid, function):
    return msgpack.packb([0, msgid, function, PARAMS.get(function, [])])


def show(functions, bodies):
    """Prints the outcomes, which come in any order."""
    outcomes = {}
    for body in bodies:
        kind, msgid, error, _ = msgpack.unpackb(body)
        assert kind == 1
        outcomes[msgid] = "ok" if error is None else error["code"]
    for msgid, function in enumerate(functions):
        print(function, outcomes[msgid])


def req(functions, *connection):
    s = encrypted(zmq.REQ, *connection)
    bodies = []
    for msgid, function in enumerate(functions):
        s.send(request(msgid, function))
        bodies.append(s.recv())
    show(functions, bodies)


def dealer(functions, *connection):
    s = encrypted(zmq.DEALER, *connection)
    for msgid, function in enumerate(functions):
        s.send_multipart([b"", request(msgid, function)])
    show(functions, [s.recv_multipart()[1] for _ in functions])


def batch(functions, *connection):
    s = encrypted(zmq.DEALER, *connection)
    requests = [request(msgid, function) for msgid, function in enumerate(functions)]
    s.send_multipart([b"", msgpack.packb([3, *requests])])
    show(functions, [s.recv_multipart()[1] for _ in functions])


def refused(*connection):
    s = encrypted(zmq.DEALER, *connection)
    s.setsockopt(zmq.RCVTIMEO, 1_000)
    s.send_multipart([b"", request(0, "add")])
    try:
        s.recv_multipart()
        print("answered")
    except zmq.Again:
        print("refused")


def proxy(*connection):
    front = context.socket(zmq.ROUTER)
    front.bind("tcp://127.0.0.1:*")
    back = encrypted(zmq.DEALER, *connection)
    print(front.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    zmq.proxy(front, back)


def server(public, secret, client):
    folder = Path(tempfile.mkdtemp())
    (folder / "client.key").write_text(f'metadata\ncurve\n    public-key = "{client}"\n')
    gate = ThreadAuthenticator(context)
    gate.start()
    gate.configure_curve(domain="*", location=str(folder))
    s = context.socket(zmq.REP)
    s.curve_server = True
    s.curve_publickey, s.curve_secretkey = public.encode(), secret.encode()
    s.bind("tcp://127.0.0.1:*")
    print(s.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    while True:
        kind, msgid, method, *_, params = msgpack.unpackb(s.recv())
        reply = [1, msgid, None, sum(params)] if method == "add" else [1, msgid, "unknown", None]
        s.send(msgpack.packb(reply))


kind, *rest = sys.argv[1:]
if kind in ("req", "dealer", "batch"):
    globals()[kind](rest[4:], *rest[:4])
else:
    globals()[kind](*rest)
