"""Sends a message that is no call, and prints the dead letter that it becomes: `garbage.py ENDPOINT`."""

import sys
import time

import pika

url, queue = sys.argv[1].split("?queue=")
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
channel.basic_publish("", queue, b"no MessagePack")
for _ in range(600):
    method, _, body = channel.basic_get(queue + ".dead", auto_ack=True)
    if method:
        print(f"the dead letter is {body}")
        sys.exit()
    time.sleep(0.1)
sys.exit("there is no dead letter")
