"""Python peers of our server: `peers.py KIND ENDPOINT`. Exits with 0 if every answer was right."""

import sys
import threading
import time

import msgpack
import zmq

TIMEOUT_MS = 20_000
context = zmq.Context.instance()


def socket(kind, endpoint, **options):
    s = context.socket(kind)
    s.setsockopt(zmq.LINGER, 0)
    s.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
    for name, value in options.items():
        s.setsockopt(getattr(zmq, name), value)
    s.connect(endpoint)
    return s


def request(msgid, method, params, options=None):
    head = [0, msgid, method] + ([] if options is None else [options])
    return msgpack.packb(head + [params])


def response(body):
    kind, msgid, error, result = msgpack.unpackb(body)
    assert kind == 1
    return msgid, error, result


def ask(s, msgid, method, params, options=None):
    s.send(request(msgid, method, params, options))
    got, error, result = response(s.recv())
    assert got == msgid, (got, msgid)
    return error, result


def all_answers_are_right(s):
    """Checks the answers that any lock-step peer gets."""
    assert ask(s, 1, "count_words", ["a b a"]) == (None, {"a": 2, "b": 1})
    assert ask(s, 2, "count_words", {"text": "by name"}) == (None, {"by": 1, "name": 1})
    assert ask(s, 3, "add", [40, 2], {"timeout_ms": 5000, "trace": "unknown option"}) == (None, 42)
    assert ask(s, 4, "add", {"b": 1, "a": 2}) == (None, 3)
    assert ask(s, 5, "echo", [b"\x00\xff" * 1000]) == (None, b"\x00\xff" * 1000)
    assert ask(s, 6, "divide", [7, 2]) == (None, 3)
    error, result = ask(s, 7, "divide", [1, 0])
    assert (error["code"], error["ran"], error["data"], result) == ("failed", "yes", {"ByZero": 1}, None), error
    error, _ = ask(s, 8, "crash", [])
    assert error["code"] == "panicked" and "as it was asked to" in error["message"], error
    error, _ = ask(s, 9, "count_word", ["x"])
    assert error["code"] == "unknown_function" and "count_words" in error["message"], error
    error, _ = ask(s, 10, "add", [1])
    assert error["code"] == "bad_arguments" and "`b`" in error["message"], error
    assert ask(s, 11, "rpc.ping", []) == (None, None)
    error, hello = ask(s, 12, "rpc.hello", [{}])
    assert error is None and hello["protocol"] == 1 and len(hello["instance"]) == 32, hello
    error, service = ask(s, 13, "rpc.discover", [])
    functions = {function["name"]: function for function in service["functions"]}
    assert [p["name"] for p in functions["add"]["params"]] == ["a", "b"], functions
    assert functions["echo"]["doc"] == "Gives back what it is given."


def req(endpoint):
    s = socket(zmq.REQ, endpoint)
    all_answers_are_right(s)
    s.send(b"nonsense")
    msgid, error, _ = response(s.recv())
    assert msgid is None and error["code"] == "bad_request", error
    all_answers_are_right(s)


def req_correlate(endpoint):
    s = socket(zmq.REQ, endpoint, REQ_CORRELATE=1, REQ_RELAXED=1)
    all_answers_are_right(s)
    # A relaxed REQ may send again before it has a reply. It drops the late reply by the correlation id.
    for n in range(100):
        s.send(request(n, "echo", [b"never read"]))
        s.send(request(n + 1000, "add", [n, 1]))
        assert response(s.recv()) == (n + 1000, None, n + 1)


def dealer(endpoint):
    """Sends many requests at once, with the empty frame and without it."""
    for front in ([b""], []):
        s = socket(zmq.DEALER, endpoint)
        for n in range(1000):
            s.send_multipart(front + [request(n, "add", [n, n])])
        answers = {}
        for _ in range(1000):
            frames = s.recv_multipart()
            assert frames[:-1] == front, frames
            msgid, error, result = response(frames[-1])
            assert error is None, error
            answers[msgid] = result
        assert answers == {n: 2 * n for n in range(1000)}
        s.send_multipart(front + [request(1, "hold_async", [])])
        s.send_multipart(front + [msgpack.packb([2, "rpc.cancel", [1]])])
        _, error, _ = response(s.recv_multipart()[-1])
        assert error["code"] == "cancelled", error


def proxy(endpoint):
    """Clients behind a ROUTER-DEALER proxy share one identity, and all count their message ids from one."""
    front = context.socket(zmq.ROUTER)
    port = front.bind_to_random_port("tcp://127.0.0.1")
    back = context.socket(zmq.DEALER)
    back.connect(endpoint)
    threading.Thread(target=zmq.proxy, args=(front, back), daemon=True).start()

    failures = []

    def client(number):
        try:
            s = socket(zmq.REQ, f"tcp://127.0.0.1:{port}")
            all_answers_are_right(s)
            for n in range(200):
                assert ask(s, n, "add", [number * 1000, n]) == (None, number * 1000 + n)
        except BaseException as failure:
            failures.append(failure)
            raise

    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert not failures, failures


def metadata(endpoint):
    s = socket(zmq.REQ, endpoint)
    meta = {"tenant": "a", "token": b"secret"}
    assert ask(s, 1, "metadata", [], {"meta": meta}) == (None, ["tenant=a", "token=secret"])
    assert ask(s, 2, "metadata", []) == (None, [])
    for wrong in (["tenant"], {"tenant": 1}, {str(n): "" for n in range(33)}, {"name": "x" * 4093}):
        error, _ = ask(s, 3, "metadata", [], {"meta": wrong})
        assert error["code"] == "bad_request", error


def many(endpoint):
    """Clients that connect, make one call and disconnect."""
    for n in range(200):
        s = socket(zmq.REQ, endpoint)
        assert ask(s, n, "add", [n, 1]) == (None, n + 1)
        s.close()


def heartbeats(endpoint):
    """A connection with heartbeats stays up, both when it is busy and when it is nearly idle."""
    s = context.socket(zmq.DEALER)
    monitor = s.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
    s.setsockopt(zmq.LINGER, 0)
    s.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
    s.setsockopt(zmq.HEARTBEAT_IVL, 50)
    s.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2_000)
    s.connect(endpoint)
    begin = time.monotonic()
    for pause in (0, 0.5):
        # Each phase has many heartbeats, and lasts longer than the heartbeat timeout.
        while time.monotonic() < begin + 3:
            s.send_multipart([b"", request(1, "add", [1, 2])])
            assert response(s.recv_multipart()[-1]) == (1, None, 3)
            time.sleep(pause)
        begin += 3
    events = []
    while monitor.poll(0):
        event, _ = monitor.recv_multipart()
        events.append(int.from_bytes(event[:2], sys.byteorder))
    assert events == [zmq.EVENT_HANDSHAKE_SUCCEEDED], events


if __name__ == "__main__":
    _, kind, endpoint = sys.argv
    kinds = [req, req_correlate, dealer, proxy, metadata, many, heartbeats]
    {function.__name__: function for function in kinds}[kind](endpoint)
    print("ok")
    # The proxy's thread would block the termination of the context, so the process exits at once.
    sys.stdout.flush()
    import os

    os._exit(0)
