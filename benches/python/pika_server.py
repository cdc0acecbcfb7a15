"""Answers the calls of pika_client.py, in the way of the RPC chapter of RabbitMQ's tutorial: one
request at a time, and a reply that is published before the request is acknowledged.

    pika_server.py ENDPOINT

The endpoint ends with `?queue=NAME`. The server prints it, and exits when stdin ends.
"""

import os
import pickle
import sys
import threading

import pika


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


def answer(channel, method, properties, body):
    function, args = pickle.loads(body)
    reply = pickle.dumps(function(*args), pickle.HIGHEST_PROTOCOL)
    reply_properties = pika.BasicProperties(correlation_id=properties.correlation_id)
    channel.basic_publish("", properties.reply_to, reply, reply_properties)
    channel.basic_ack(method.delivery_tag)


threading.Thread(target=end_with_parent, daemon=True).start()
endpoint = sys.argv[1]
url, queue = endpoint.split("?queue=")
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
channel.queue_declare(queue)
channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue, answer)
print(endpoint, flush=True)
channel.start_consuming()
