"""Calls a function through RabbitMQ, one call after the other, in the way of the RPC chapter of
RabbitMQ's tutorial, and reports each turn as a line of JSON.

    pika_client.py ENDPOINT FUNCTION BYTES THREADS

The arguments and the lines of stdin are those of client.py.
"""

import json
import pickle
import sys
import time
import uuid

import pika

import functions
from sentence import SENTENCE


class Caller:
    def __init__(self, endpoint, function, argument):
        url, self.queue = endpoint.split("?queue=")
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.replies = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.basic_consume(self.replies, self.on_reply, auto_ack=True)
        self.request = (function, (argument,))
        self.expected = function(argument)

    def on_reply(self, channel, method, properties, body):
        if properties.correlation_id == self.id:
            self.reply = body

    def call(self):
        self.reply, self.id = None, str(uuid.uuid4())
        properties = pika.BasicProperties(reply_to=self.replies, correlation_id=self.id)
        body = pickle.dumps(self.request, pickle.HIGHEST_PROTOCOL)
        self.channel.basic_publish("", self.queue, body, properties)
        while self.reply is None:
            self.connection.process_data_events(time_limit=None)
        return pickle.loads(self.reply)


def turn(caller, seconds):
    start = time.perf_counter()
    latencies, at = [], start
    while at < start + seconds:
        if caller.call() != caller.expected:
            sys.exit("a call has returned the wrong result")
        now = time.perf_counter()
        latencies.append(now - at)
        at = now
    calls = len(latencies)
    latencies.sort()
    return {"calls": calls, "took": at - start, "p50": latencies[calls * 50 // 100], "p99": latencies[calls * 99 // 100]}


def main():
    endpoint, name, length, _ = sys.argv[1:]
    argument = bytes(i % 251 for i in range(int(length))) if name == "echo" else SENTENCE
    caller = Caller(endpoint, getattr(functions, name), argument)
    caller.call()
    print("connected", flush=True)
    for line in sys.stdin:
        print(json.dumps(turn(caller, float(line))), flush=True)


main()
