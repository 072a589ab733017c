"""AMQP 0-9-1 with pika: publish with confirms, consume, get, settle, exchanges, prefetch, cancel, errors.

python main.py HOST:PORT   (or KOINE_AMQP=HOST:PORT; usual: 127.0.0.1:5672)
"""

import os
import sys
from decimal import Decimal

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))

import pika  # noqa: E402
from checks import TIMEOUT_S, address, host_and_port, run, same, unique, wait_until  # noqa: E402
from pika.exceptions import (  # noqa: E402
    AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker, UnroutableError)

HOST, PORT = host_and_port(address("KOINE_AMQP", "127.0.0.1:5672"))
BODIES = [b"", b"\0", b"text", bytes(range(256)) * 4, b"\x05" * 131_072, b"\x06" * 1_000_000]


def connect(password="guest", **settings):
    credentials = pika.PlainCredentials("guest", password)
    parameters = pika.ConnectionParameters(HOST, PORT, "/", credentials, **settings)
    return pika.BlockingConnection(parameters)


def channel(confirm=True):
    opened = connect().channel()
    if confirm:
        opened.confirm_delivery()
    return opened


def properties(i):
    return pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=4, correlation_id=f"c-{i}",
        reply_to="answers", message_id=f"m-{i}", timestamp=1_700_000_000 + i, type="t", app_id="pika", user_id="guest",
        headers={"int": i, "big": 2 ** 40, "text": "κοινή", "bytes": b"\0\xff", "flag": True, "none": None,
                 "decimal": Decimal("1.5"), "list": [1, "two"], "table": {"a": {"b": 1}}})


def refused(error_type, code, call):
    try:
        call()
    except error_type as error:
        same("reply code", error.reply_code, code)
    else:
        raise AssertionError(f"accepted, want {code}")


def publish_and_consume():
    """With confirms on, basic_publish returns when the broker has acknowledged."""
    ch, queue = channel(), unique("pika")
    ch.queue_declare(queue, durable=True)
    for i, body in enumerate(BODIES):
        ch.basic_publish("", queue, body, properties(i), mandatory=True)
    for i, (method, got, body) in enumerate(ch.consume(queue, inactivity_timeout=TIMEOUT_S)):
        same("body", body, BODIES[i])
        same("properties", vars(got), vars(properties(i)))
        same("address", (method.exchange, method.routing_key, method.redelivered), ("", queue, False))
        ch.basic_ack(method.delivery_tag)
        if i + 1 == len(BODIES):
            break
    ch.cancel()
    same("left", ch.queue_declare(queue, passive=True).method.message_count, 0)
    ch.queue_delete(queue)
    ch.connection.close()


def settle():
    ch, queue = channel(), unique("pika-settle")
    ch.queue_declare(queue)
    for i in range(4):
        ch.basic_publish("", queue, str(i).encode())
    got = [ch.basic_get(queue) for _ in range(3)]
    same("bodies", [body for _, _, body in got], [b"0", b"1", b"2"])
    ch.basic_nack(got[1][0].delivery_tag, multiple=True, requeue=True)
    ch.basic_reject(got[2][0].delivery_tag, requeue=False)
    again = [ch.basic_get(queue) for _ in range(3)]
    same("again", [(m.redelivered, body) for m, _, body in again], [(True, b"0"), (True, b"1"), (False, b"3")])
    ch.basic_recover(requeue=True)
    same("recovered", ch.queue_declare(queue, passive=True).method.message_count, 3)
    same("purged", ch.queue_purge(queue).method.message_count, 3)
    same("empty", ch.basic_get(queue)[0], None)
    ch.queue_delete(queue)


def requeue_on_close():
    queue = unique("pika-close")
    first = channel()
    first.queue_declare(queue)
    first.basic_publish("", queue, b"held")
    same("held", first.basic_get(queue)[2], b"held")
    first.connection.close()
    second = channel()
    method, _, body = second.basic_get(queue)
    same("redelivered", (method.redelivered, body), (True, b"held"))
    second.queue_delete(queue)


def prefetch():
    ch, queue, seen = channel(), unique("pika-prefetch"), []
    ch.queue_declare(queue)
    for i in range(6):
        ch.basic_publish("", queue, str(i).encode())
    ch.basic_qos(prefetch_count=2)
    ch.basic_consume(queue, lambda _ch, method, _properties, _body: seen.append(method.delivery_tag))
    ch.connection.process_data_events(0.5)
    same("before the ack", len(seen), 2)
    ch.basic_ack(seen[-1], multiple=True)
    wait_until("two more", lambda: ch.connection.process_data_events(0.1) or len(seen) == 4)
    ch.queue_delete(queue)


def exchanges():
    ch = channel()
    arguments = {"x-match": "all", "colour": "red", "size": 3}
    for kind, binding, table, hits, misses in [
            ("direct", "red", None, [("red", None)], [("blue", None)]),
            ("topic", "*.b.#", None, [("a.b", None), ("x.b.c.d", None)], [("b", None), ("a.c.b", None)]),
            ("fanout", "", None, [("any", None), ("", None)], []),
            ("headers", "", arguments, [("", {"colour": "red", "size": 3, "more": 1})], [("", {"colour": "red"})])]:
        exchange, queue = unique(f"pika-{kind}"), unique("pika-q")
        ch.exchange_declare(exchange, kind, durable=True)
        ch.queue_declare(queue)
        ch.queue_bind(queue, exchange, binding, table)
        for key, headers in hits:
            ch.basic_publish(exchange, key, b"hit", pika.BasicProperties(headers=headers), mandatory=True)
            method, _, body = ch.basic_get(queue, auto_ack=True)
            same(kind, (body, method.exchange, method.routing_key), (b"hit", exchange, key))
        for key, headers in misses:
            try:
                ch.basic_publish(exchange, key, b"miss", pika.BasicProperties(headers=headers), mandatory=True)
            except UnroutableError as error:
                same("return code", error.messages[0].method.reply_code, 312)
            else:
                raise AssertionError(f"{kind}: {key!r} was routed")
        ch.queue_unbind(queue, exchange, binding, table)
        ch.exchange_delete(exchange)
        ch.queue_delete(queue)


def exchange_to_exchange():
    ch, source, target = channel(), unique("pika-source"), unique("pika-target")
    ch.exchange_declare(source, "topic")
    ch.exchange_declare(target, "fanout")
    ch.exchange_bind(target, source, "a.#")
    queue = ch.queue_declare("", exclusive=True).method.queue
    same("server's name", queue.startswith("amq.gen-"), True)
    ch.queue_bind(queue, target)
    ch.basic_publish(source, "a.b", b"through", mandatory=True)
    same("body", ch.basic_get(queue, auto_ack=True)[2], b"through")
    ch.exchange_delete(source)
    ch.exchange_delete(target)


def cancel_notify():
    """Deleting a queue tells its consumers."""
    ch, queue, cancelled = channel(), unique("pika-cancel"), []
    ch.queue_declare(queue)
    ch.add_on_cancel_callback(cancelled.append)
    tag = ch.basic_consume(queue, lambda *_: None)
    channel().queue_delete(queue)
    wait_until("cancel", lambda: ch.connection.process_data_events(0.1) or cancelled)
    same("tag", cancelled[0].method.consumer_tag, tag)


def transaction():
    ch, queue = channel(confirm=False), unique("pika-tx")
    ch.queue_declare(queue)
    ch.tx_select()
    ch.basic_publish("", queue, b"dropped")
    ch.tx_rollback()
    ch.basic_publish("", queue, b"kept")
    same("before commit", ch.queue_declare(queue, passive=True).method.message_count, 0)
    ch.tx_commit()
    same("after commit", ch.basic_get(queue, auto_ack=True)[2], b"kept")


def error_missing_queue():
    ch = channel()
    refused(ChannelClosedByBroker, 404, lambda: ch.queue_declare(unique("nobody"), passive=True))
    same("connection survives", ch.connection.channel().is_open, True)


def error_redeclared():
    ch, queue = channel(), unique("pika-twice")
    ch.queue_declare(queue, auto_delete=False)
    refused(ChannelClosedByBroker, 406, lambda: ch.queue_declare(queue, auto_delete=True))


def error_exclusive():
    owner, queue = channel(), unique("pika-exclusive")
    owner.queue_declare(queue, exclusive=True)
    refused(ChannelClosedByBroker, 405, lambda: channel().queue_declare(queue, passive=True))


def error_reserved_name():
    refused(ChannelClosedByBroker, 403, lambda: channel().queue_declare("amq.mine"))


def error_double_ack():
    ch, queue = channel(), unique("pika-double")
    ch.queue_declare(queue)

    def ack_twice():
        ch.basic_ack(77)
        ch.queue_declare(queue, passive=True)

    refused(ChannelClosedByBroker, 406, ack_twice)


def error_exchange_type():
    ch = channel()
    refused(ConnectionClosedByBroker, 503, lambda: ch.exchange_declare(unique("x"), "no-such-type"))


def error_login():
    try:
        connect(password="wrong")
    except AMQPConnectionError as error:
        same("reason", "403" in repr(error), True)
    else:
        raise AssertionError("accepted")


run([("publish-consume-confirm", publish_and_consume), ("settle", settle), ("requeue-on-close", requeue_on_close),
     ("prefetch", prefetch), ("exchanges", exchanges), ("exchange-to-exchange", exchange_to_exchange),
     ("cancel-notify", cancel_notify), ("error-missing-queue", error_missing_queue),
     ("error-redeclared", error_redeclared), ("error-exclusive", error_exclusive),
     ("error-reserved-name", error_reserved_name), ("error-double-ack", error_double_ack),
     ("error-exchange-type", error_exchange_type), ("error-login", error_login)]
    + ([("transaction", transaction)] if os.environ.get("CLIENT_TX") else []))
