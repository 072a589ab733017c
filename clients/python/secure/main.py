"""Logs in with confluent-kafka, pika or paho-mqtt, over TLS if told so, and says what became of it.

main.py LIBRARY MODE HOST:PORT [key=value ...]

LIBRARY is confluent-kafka, pika or paho-mqtt. MODE is
  login    writes a message and reads it back
  refused  expects the library's own error for a login that failed
  revoked  works until the user has lost its rights: says `ready` at first and `lost` at the end
Keys: user, password, mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, EXTERNAL), ca, cert, key.
"""

import ssl
import sys
import time

LIMIT_S = 20
LIBRARY, MODE, ADDRESS = sys.argv[1:4]
OPTIONS = dict(argument.split("=", 1) for argument in sys.argv[4:])
HOST, PORT = ADDRESS.rsplit(":", 1)
NAME = f"secure.{time.time_ns():x}"


def say(text):
    print(text, flush=True)


def within(condition, what):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {LIMIT_S} s")


def context():
    if "ca" not in OPTIONS:
        return None
    made = ssl.create_default_context(cafile=OPTIONS["ca"])
    if "cert" in OPTIONS:
        made.load_cert_chain(OPTIONS["cert"], OPTIONS["key"])
    return made


def kafka():
    from confluent_kafka import Consumer, KafkaError, Producer

    errors = []
    has_sasl = OPTIONS.get("mechanism", "PLAIN") != "EXTERNAL"
    config = {
        "bootstrap.servers": ADDRESS,
        "security.protocol": ("SASL_" if has_sasl else "") + ("SSL" if "ca" in OPTIONS else "PLAINTEXT"),
        "error_cb": lambda error: errors.append(error.code()),
        "socket.timeout.ms": 10_000,
        "message.timeout.ms": 15_000,
    }
    if has_sasl:
        config["sasl.mechanism"] = OPTIONS.get("mechanism", "PLAIN")
        config["sasl.username"] = OPTIONS["user"]
        config["sasl.password"] = OPTIONS["password"]
    for name, key in [("ca", "ssl.ca.location"), ("cert", "ssl.certificate.location"), ("key", "ssl.key.location")]:
        if name in OPTIONS:
            config[key] = OPTIONS[name]
    producer = Producer(config)
    if MODE == "refused":
        within(lambda: producer.poll(0.05) is None or KafkaError._AUTHENTICATION in errors, "an error")
        assert KafkaError._AUTHENTICATION in errors, errors
        return
    results = []

    def send():
        producer.produce(NAME, b"body", callback=lambda error, _: results.append(error))
        within(lambda: producer.poll(0.05) is not None and results, "delivery")
        return results.pop()

    assert send() is None
    if MODE == "login":
        consumer = Consumer({**config, "group.id": NAME, "auto.offset.reset": "earliest"})
        consumer.subscribe([NAME])
        got = []

        def read():
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                got.append(message.value())
            return got

        within(read, "a record")
        assert got == [b"body"], got
        consumer.close()
        return
    say("ready")
    while True:
        # What is sent over a connection that has been ended is tried again in vain until its time is up.
        producer.produce(NAME, b"body", callback=lambda error, _: results.append(error))
        until = time.monotonic() + 0.5
        while time.monotonic() < until and not results:
            producer.poll(0.01)
        if results != [None]:
            return say("lost")
        results.clear()


def amqp():
    import pika

    if OPTIONS.get("mechanism") == "EXTERNAL":
        credentials = pika.credentials.ExternalCredentials()
    else:
        credentials = pika.PlainCredentials(OPTIONS["user"], OPTIONS["password"])
    made = context()
    options = pika.SSLOptions(made, HOST) if made else None
    parameters = pika.ConnectionParameters(HOST, int(PORT), credentials=credentials, ssl_options=options)
    if MODE == "refused":
        try:
            pika.BlockingConnection(parameters)
        except pika.exceptions.ProbableAuthenticationError as error:
            return say(f"{error!r}")
        raise AssertionError("let in")
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(NAME, durable=True)
    channel.basic_publish("", NAME, b"body")
    got = []
    channel.basic_consume(NAME, lambda ch, method, _, body: (got.append(body), ch.basic_ack(method.delivery_tag)))
    within(lambda: connection.process_data_events(0.05) or got, "a delivery")
    assert got == [b"body"], got
    if MODE == "revoked":
        say("ready")
        try:
            while channel.is_open and channel.consumer_tags:
                connection.process_data_events(0.02)
        except pika.exceptions.AMQPError:
            pass
        return say("lost")
    connection.close()


def mqtt():
    import paho.mqtt.client as paho

    seen = {"connected": None, "got": [], "ended": False}
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, NAME, protocol=paho.MQTTv5)
    if "user" in OPTIONS:
        client.username_pw_set(OPTIONS["user"], OPTIONS["password"])
    made = context()
    if made:
        client.tls_set_context(made)
    client.on_connect = lambda _c, _u, _f, reason, _p: seen.update(connected=reason.value)
    client.on_message = lambda _c, _u, message: seen["got"].append(message.payload)
    client.on_disconnect = lambda *_: seen.update(ended=True)
    client.connect(HOST, int(PORT))
    within(lambda: client.loop(0.05) is None or seen["connected"] is not None, "CONNACK")
    if MODE == "refused":
        assert seen["connected"] in (0x86, 0x87), seen
        return
    assert seen["connected"] == 0, seen
    client.subscribe(NAME.replace(".", "/"), 1)
    client.publish(NAME.replace(".", "/"), b"body", 1)
    within(lambda: client.loop(0.05) is None or seen["got"], "the message")
    assert seen["got"] == [b"body"], seen
    if MODE == "revoked":
        say("ready")
        within(lambda: client.loop(0.02) is None or seen["ended"], "the end")
        return say("lost")


{"confluent-kafka": kafka, "pika": amqp, "paho-mqtt": mqtt}[LIBRARY]()
say(f"ok {LIBRARY} {MODE}")
