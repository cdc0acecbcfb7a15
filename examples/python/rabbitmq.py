"""Calls a remote function through RabbitMQ, with pika.

    rabbitmq.py amqp://guest:guest@127.0.0.1:5672/%2f?queue=rpc add 2 3

Every argument of the function is written as JSON. A call is a message in MessagePack to the queue of
the service; `reply_to` names the queue for the reply, and `correlation_id` tells replies apart.
"""

import json
import sys
import urllib.parse
import uuid

import msgpack
import pika


class Client:
    def __init__(self, endpoint):
        url = urllib.parse.urlsplit(endpoint)
        options = dict(part.partition("=")[::2] for part in url.query.split("&"))
        queue = urllib.parse.unquote(options.get("queue", "rpc"))
        broker = pika.URLParameters(url._replace(query="").geturl())
        self.connection = pika.BlockingConnection(broker)
        self.channel = self.connection.channel()
        self.queue = queue
        self.replies = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.basic_consume(self.replies, self.on_reply, auto_ack=True)
        self.answers = {}

    def on_reply(self, channel, method, properties, body):
        self.answers[properties.correlation_id] = msgpack.unpackb(body)

    def call(self, function, *args, timeout=10):
        id = str(uuid.uuid4())
        properties = pika.BasicProperties(
            reply_to=self.replies,
            correlation_id=id,
            delivery_mode=2,
            expiration=str(int(timeout * 1000)),
        )
        self.channel.basic_publish("", self.queue, msgpack.packb([0, 1, function, args]), properties)
        self.connection.process_data_events(time_limit=0)
        waited = 0.0
        while id not in self.answers:
            if waited >= timeout:
                raise TimeoutError(f"{function} was not answered within {timeout} s")
            self.connection.process_data_events(time_limit=0.1)
            waited += 0.1
        _, _, error, result = self.answers.pop(id)
        if error is not None:
            raise RuntimeError(error)
        return result


if __name__ == "__main__":
    endpoint, function, *args = sys.argv[1:]
    print(Client(endpoint).call(function, *map(json.loads, args)))
