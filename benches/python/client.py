"""Calls a function from several threads, and reports each turn as a line of JSON.

    client.py ENDPOINT FUNCTION BYTES THREADS

Each line of stdin starts a turn, and holds its duration in seconds. The function `echo` gets an
argument of BYTES bytes.
"""

import json
import os
import pickle
import sys
import threading
import time

import zmq

import functions
from sentence import SENTENCE


class Caller:
    def __init__(self, endpoint, function, argument):
        self.socket = zmq.Context.instance().socket(zmq.REQ)
        self.socket.connect(endpoint)
        self.function, self.argument, self.expected = function, argument, function(argument)
        self.latencies = []

    def call(self):
        self.socket.send(pickle.dumps((self.function, (self.argument,)), pickle.HIGHEST_PROTOCOL))
        return pickle.loads(self.socket.recv())

    def run(self, end):
        self.latencies = []
        start = time.perf_counter()
        while start < end:
            if self.call() != self.expected:
                print("a call has returned the wrong result", file=sys.stderr, flush=True)
                os._exit(1)
            now = time.perf_counter()
            self.latencies.append(now - start)
            start = now


def turn(callers, seconds):
    start = time.perf_counter()
    threads = [threading.Thread(target=caller.run, args=(start + seconds,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    latencies = sorted(latency for caller in callers for latency in caller.latencies)
    calls = len(latencies)
    return {"calls": calls, "took": took, "p50": latencies[calls * 50 // 100], "p99": latencies[calls * 99 // 100]}


def main():
    endpoint, name, length, threads = sys.argv[1:]
    argument = bytes(i % 251 for i in range(int(length))) if name == "echo" else SENTENCE
    callers = [Caller(endpoint, getattr(functions, name), argument) for _ in range(int(threads))]
    for caller in callers:
        caller.call()
    print("connected", flush=True)
    for line in sys.stdin:
        print(json.dumps(turn(callers, float(line))), flush=True)


main()
