"""Calls a Rust function over an encrypted connection, with key files that `keygen` or pyzmq has made.

    cargo run --example keygen --features curve -- server
    cargo run --example keygen --features curve -- alice
    python3 examples/python/encrypted.py tcp://127.0.0.1:5555 server.key alice.key_secret

A server that refuses the key, or has another one than the file says, does not answer, and libzmq
reports no error: the call ends after five seconds. The log of the server says why.
"""

import sys

import msgpack
import zmq
import zmq.auth

endpoint, server_file, own_file = sys.argv[1:]
server_key, _ = zmq.auth.load_certificate(server_file)
public_key, secret_key = zmq.auth.load_certificate(own_file)

s = zmq.Context.instance().socket(zmq.REQ)
s.curve_serverkey, s.curve_publickey, s.curve_secretkey = server_key, public_key, secret_key
s.rcvtimeo, s.linger = 5_000, 0
s.connect(endpoint)
s.send(msgpack.packb([0, 1, "count_words", ["a b a"]]))
try:
    _, _, error, result = msgpack.unpackb(s.recv())
except zmq.Again:
    sys.exit("no answer within 5 s: is the server there, and does its access list have this key?")
print(error or result)
