"""Every protocol reads what every protocol wrote: Kafka, AMQP 0-9-1 and MQTT 5 over one broker.

python main.py [CHECK ...]
with KOINE_KAFKA, KOINE_AMQP and KOINE_MQTT = HOST:PORT; usual: the local ports of each protocol.

One name addresses the same thing everywhere: Kafka topic `a.b`, AMQP `amq.topic` with routing key `a.b`, MQTT topic
`a/b`. An AMQP queue is a Kafka topic of the same name, and a topic can be consumed as an AMQP queue.
"""

import hashlib
import os
import queue
import sys
import threading

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))

import pika  # noqa: E402
from checks import TIMEOUT_S, brief, host_and_port, run, same, unique  # noqa: E402
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from paho.mqtt import client as mqtt  # noqa: E402
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402

KAFKA = os.environ.get("KOINE_KAFKA", "127.0.0.1:9092")
AMQP = os.environ.get("KOINE_AMQP", "127.0.0.1:5672")
MQTT = os.environ.get("KOINE_MQTT", "127.0.0.1:1883")
COMMON = {"bootstrap.servers": KAFKA, "broker.address.family": "v4"}
ADMIN = AdminClient(COMMON)
BODY_BYTES_MAX = 8_000_000
HEADERS = {"plain": "value", "κλειδί": "ü 漢字 🚀", "empty": ""}
BODIES = [b"", b"\0", "κοινή".encode(), bytes(range(256)), os.urandom(65_536), os.urandom(1_000_000),
          os.urandom(BODY_BYTES_MAX)]


class Message:
    """What all three protocols can say: a body, text headers, and a key that only Kafka has of its own."""

    def __init__(self, body, headers=None, key=None):
        self.body, self.headers, self.key = body or b"", headers or {}, key

    def __repr__(self):
        digest = hashlib.sha256(self.body).hexdigest()[:12]
        return f"Message({len(self.body)} B {digest}, {self.headers}, key={self.key})"


def compare(got, want):
    same("count", len(got), len(want))
    for one, other in zip(got, want):
        if one.body != other.body:
            raise AssertionError(f"body: got {one}, want {other}")
        missing = {name: value for name, value in other.headers.items() if one.headers.get(name) != value}
        if missing:
            raise AssertionError(f"headers of {brief(other)}: got {one.headers}, lacking {missing}")


def messages():
    return [Message(body, HEADERS, None if i % 2 else f"key-{i}".encode()) for i, body in enumerate(BODIES)]


# --- Kafka ------------------------------------------------------------------------------------------------------


def create_topic(name, partitions=1):
    topic = NewTopic(name, partitions, 1, config={"max.message.bytes": "16000000"})
    ADMIN.create_topics([topic])[name].result(TIMEOUT_S)


class Kafka:
    """Writes to and reads from partition 0 of the topic or queue `name`."""

    def __init__(self, name):
        self.name = name

    def write(self, sent):
        results = []
        producer = Producer({**COMMON, "acks": "all", "message.max.bytes": 16_000_000, "linger.ms": 0})
        for message in sent:
            producer.produce(self.name, message.body, message.key, headers=message.headers, partition=0,
                             on_delivery=lambda *result: results.append(result))
        same("left in the queue", producer.flush(TIMEOUT_S), 0)
        for error, _ in results:
            if error:
                raise KafkaException(error)

    def read(self, count):
        consumer = Consumer({**COMMON, "group.id": unique("matrix"), "fetch.message.max.bytes": 16_000_000,
                             "receive.message.max.bytes": 200_000_000, "fetch.max.bytes": 64_000_000})
        consumer.assign([TopicPartition(self.name, 0, OFFSET_BEGINNING)])
        read = []
        while len(read) < count:
            record = consumer.poll(TIMEOUT_S)
            if record is None:
                raise AssertionError(f"{len(read)} of {count} records within {TIMEOUT_S} s")
            if record.error():
                raise KafkaException(record.error())
            same("offset", record.offset(), len(read))
            headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers() or []}
            read.append(Message(record.value(), headers, record.key()))
        consumer.close()
        return read


# --- AMQP -------------------------------------------------------------------------------------------------------


def amqp_channel():
    host, port = host_and_port(AMQP)
    parameters = pika.ConnectionParameters(host, port, "/", pika.PlainCredentials("guest", "guest"))
    channel = pika.BlockingConnection(parameters).channel()
    channel.confirm_delivery()
    return channel


def text_of(value):
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class Amqp:
    """Writes to (exchange, key); reads from a queue, declared and bound unless `declare` is false."""

    def __init__(self, exchange, key, name=None, declare=True, bind=True):
        self.exchange, self.key, self.queue = exchange, key, name or unique("matrix-queue")
        self.channel = amqp_channel()
        self.properties = []
        if declare:
            self.channel.queue_declare(self.queue, durable=True)
            if bind:
                self.channel.queue_bind(self.queue, exchange, key)

    def write(self, sent, **properties):
        for message in sent:
            values = pika.BasicProperties(headers=message.headers, delivery_mode=2, **properties)
            self.channel.basic_publish(self.exchange, self.key, message.body, values)

    def read(self, count):
        read = []
        self.channel.basic_qos(prefetch_count=3)
        for method, properties, body in self.channel.consume(self.queue, inactivity_timeout=TIMEOUT_S):
            if method is None:
                raise AssertionError(f"{len(read)} of {count} messages within {TIMEOUT_S} s")
            headers = {name: text_of(value) for name, value in (properties.headers or {}).items()}
            read.append(Message(body, headers))
            self.properties.append(properties)
            self.channel.basic_ack(method.delivery_tag)
            if len(read) == count:
                break
        self.channel.cancel()
        return read


# --- MQTT -------------------------------------------------------------------------------------------------------


class Mqtt:
    """Writes to and reads from a topic, subscribed to at once if `subscribe`."""

    def __init__(self, topic, subscribe=False, qos=1):
        self.topic, self.qos, self.inbox = topic, qos, queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, unique("matrix"), protocol=mqtt.MQTTv5,
                                  reconnect_on_failure=False)
        ready = threading.Event()
        self.client.on_connect = lambda *_: self.client.subscribe(topic, qos) if subscribe else ready.set()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = lambda _client, _data, message: self.inbox.put(message)
        self.client.connect(*host_and_port(MQTT), 60)
        self.client.loop_start()
        if not ready.wait(TIMEOUT_S):
            raise AssertionError("MQTT: not connected or not subscribed")

    def write(self, sent, **values):
        for message in sent:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = list(message.headers.items())
            for name, value in values.items():
                setattr(properties, name, value)
            self.client.publish(self.topic, message.body, self.qos, properties=properties).wait_for_publish(TIMEOUT_S)

    def read_raw(self, count):
        try:
            return [self.inbox.get(timeout=TIMEOUT_S) for _ in range(count)]
        except queue.Empty:
            raise AssertionError(f"fewer than {count} messages within {TIMEOUT_S} s") from None

    def read(self, count):
        read = []
        for message in self.read_raw(count):
            same("topic", message.topic, self.topic)
            read.append(Message(message.payload, dict(getattr(message.properties, "UserProperty", []))))
        return read


# --- the cells --------------------------------------------------------------------------------------------------


def subject(*parts):
    """A fresh subject in Kafka's and AMQP's spelling, and in MQTT's."""
    name = ".".join(("matrix", *parts, unique("x")))
    return name, name.replace(".", "/")


def cell(writer, reader):
    dotted, slashed = subject(writer, reader)
    if "kafka" in (writer, reader):
        create_topic(dotted)
    makers = {"kafka": lambda _reads: Kafka(dotted), "amqp": lambda _reads: Amqp("amq.topic", dotted),
              "mqtt": lambda reads: Mqtt(slashed, subscribe=reads)}
    source, target, sent = makers[writer](False), makers[reader](True), messages()
    source.write(sent)
    got = target.read(len(sent))
    compare(got, sent)
    if (writer, reader) == ("kafka", "kafka"):
        same("keys", [message.key for message in got], [message.key for message in sent])


def all_readers_at_once(writer):
    """One write reaches a Kafka topic, a bound AMQP queue and an MQTT subscriber."""
    dotted, slashed = subject("all", writer)
    create_topic(dotted)
    readers = [Kafka(dotted), Amqp("amq.topic", "matrix.all.#"), Mqtt(slashed, subscribe=True)]
    writers = {"kafka": Kafka(dotted), "amqp": Amqp("amq.topic", dotted, declare=False), "mqtt": Mqtt(slashed)}
    sent = [Message(f"{i}".encode(), HEADERS) for i in range(50)]
    writers[writer].write(sent)
    for reader in readers:
        compare(reader.read(len(sent)), sent)


def kafka_reads_a_queue():
    """A queue's stream, by the queue's name; reading it takes nothing from the queue."""
    name, sent = unique("matrix-q"), messages()
    side = Amqp("", name, name, bind=False)
    side.write(sent)
    compare(Kafka(name).read(len(sent)), sent)
    compare(side.read(len(sent)), sent)


def kafka_writes_a_queue():
    name, sent = unique("matrix-q"), messages()
    side = Amqp("", name, name, bind=False)
    Kafka(name).write(sent)
    compare(side.read(len(sent)), sent)


def amqp_reads_a_topic(writer):
    """A topic is consumed as a queue of that name, undeclared; what is acknowledged is not deleted from the topic."""
    dotted, slashed = subject("undeclared", writer)
    create_topic(dotted)
    sent = messages()
    (Kafka(dotted) if writer == "kafka" else Mqtt(slashed)).write(sent)
    compare(Amqp("", dotted, dotted, declare=False).read(len(sent)), sent)
    compare(Kafka(dotted).read(len(sent)), sent)
    later = [Message(b"later")]
    Kafka(dotted).write(later)
    compare(Amqp("", dotted, dotted, declare=False).read(1), later)


def amqp_writes_a_topic():
    """The default exchange with a topic's name appends to it."""
    dotted, _ = subject("default-exchange")
    create_topic(dotted)
    Amqp("", dotted, declare=False).write([Message(b"x", HEADERS)])
    compare(Kafka(dotted).read(1), [Message(b"x", HEADERS)])


def mqtt_qualities():
    dotted, slashed = subject("qualities")
    create_topic(dotted)
    for qos in (0, 1, 2):
        Mqtt(slashed, qos=qos).write([Message(bytes([qos]))])
    compare(Kafka(dotted).read(3), [Message(bytes([qos])) for qos in (0, 1, 2)])


def tombstone():
    """Kafka's null body is an empty body elsewhere."""
    dotted, slashed = subject("tombstone")
    create_topic(dotted)
    readers = [Amqp("amq.topic", dotted), Mqtt(slashed, subscribe=True)]
    producer = Producer(COMMON)
    producer.produce(dotted, None, b"key", headers=HEADERS)
    producer.flush(TIMEOUT_S)
    for reader in readers:
        compare(reader.read(1), [Message(b"", HEADERS)])


def typed_headers():
    """AMQP's typed headers are read as text by the others."""
    dotted, slashed = subject("typed")
    create_topic(dotted)
    reader = Mqtt(slashed, subscribe=True)
    typed = {"int": 42, "big": -(2 ** 40), "flag": True, "text": "κοινή"}
    want = [Message(b"x", {"int": "42", "big": str(-(2 ** 40)), "flag": "true", "text": "κοινή"})]
    Amqp("amq.topic", dotted, declare=False).write([Message(b"x", typed)])
    compare(Kafka(dotted).read(1), want)
    compare(reader.read(1), want)


def amqp_properties_to_mqtt():
    dotted, slashed = subject("properties")
    reader = Mqtt(slashed, subscribe=True)
    Amqp("amq.topic", dotted, declare=False).write(
        [Message(b"x")], content_type="text/plain", correlation_id="c-1", reply_to="answers.here", expiration="60000")
    got = reader.read_raw(1)[0].properties
    same("properties", (got.ContentType, got.CorrelationData, got.ResponseTopic),
         ("text/plain", b"c-1", "answers/here"))
    same("expiry", 50 <= got.MessageExpiryInterval <= 60, True)


def mqtt_properties_to_amqp():
    dotted, slashed = subject("properties")
    reader = Amqp("amq.topic", dotted)
    Mqtt(slashed).write([Message(b"x")], ContentType="text/plain", CorrelationData=b"c-1",
                        ResponseTopic="answers/here", MessageExpiryInterval=60)
    reader.read(1)
    [got] = reader.properties
    same("properties", (got.content_type, got.correlation_id, got.reply_to, got.delivery_mode),
         ("text/plain", "c-1", "answers.here", 2))
    same("expiry", 50_000 <= int(got.expiration) <= 60_000, True)


def mqtt_delivery_mode():
    """QoS 0 is transient for AMQP, QoS 1 and 2 persistent."""
    dotted, slashed = subject("durability")
    reader = Amqp("amq.topic", dotted)
    for qos in (0, 1, 2):
        Mqtt(slashed, qos=qos).write([Message(b"x")])
    reader.read(3)
    same("delivery modes", [p.delivery_mode or 1 for p in reader.properties], [1, 2, 2])


def unicode_names():
    """Names that Kafka cannot have: AMQP queues and routing keys, MQTT topics."""
    word = unique("θέμα-漢字-🚀")
    reader = Mqtt(f"{word}/β", subscribe=True)
    bound = Amqp("amq.topic", f"{word}.*", name=f"ουρά-{word}")
    Amqp("amq.topic", f"{word}.β", declare=False).write([Message(b"from AMQP", HEADERS)])
    Mqtt(f"{word}/β").write([Message(b"from MQTT", HEADERS)])
    want = [Message(b"from AMQP", HEADERS), Message(b"from MQTT", HEADERS)]
    compare(reader.read(2), want)
    compare(bound.read(2), want)


def wildcards():
    """MQTT `+` and `#`, AMQP `*` and `#` select the same subjects."""
    root = unique("wild")
    names = [f"{root}.a", f"{root}.a.b", f"{root}.a.b.c"]
    for name in names:
        create_topic(name)
    one, rest = Mqtt(f"{root}/+", subscribe=False), Mqtt("unused", subscribe=False)
    one.client.subscribe(f"{root}/+", 1)
    rest.client.subscribe(f"{root}/a/#", 1)
    Mqtt(f"{root}/ready", subscribe=True)  # both subscriptions are in place once a later one is granted
    bound = Amqp("amq.topic", f"{root}.*.#")
    for name in names:
        Kafka(name).write([Message(name.encode())])
    same("+", [m.payload.decode() for m in one.read_raw(1)], names[:1])
    same("#", sorted(m.payload.decode() for m in rest.read_raw(3)), names)
    compare(sorted(bound.read(3), key=lambda m: m.body), [Message(name.encode()) for name in names])


CHECKS = ([(f"{writer}-to-{reader}", lambda w=writer, r=reader: cell(w, r))
           for writer in ("kafka", "amqp", "mqtt") for reader in ("kafka", "amqp", "mqtt")]
          + [(f"{writer}-to-all", lambda w=writer: all_readers_at_once(w)) for writer in ("kafka", "amqp", "mqtt")]
          + [("kafka-reads-queue", kafka_reads_a_queue), ("kafka-writes-queue", kafka_writes_a_queue),
             ("amqp-reads-kafka-topic-undeclared", lambda: amqp_reads_a_topic("kafka")),
             ("amqp-reads-mqtt-topic-undeclared", lambda: amqp_reads_a_topic("mqtt")),
             ("amqp-writes-topic", amqp_writes_a_topic), ("mqtt-qualities", mqtt_qualities), ("tombstone", tombstone),
             ("typed-headers", typed_headers), ("amqp-properties-to-mqtt", amqp_properties_to_mqtt),
             ("mqtt-properties-to-amqp", mqtt_properties_to_amqp), ("mqtt-delivery-mode", mqtt_delivery_mode),
             ("unicode-names", unicode_names), ("wildcards", wildcards)])

run([check for check in CHECKS if len(sys.argv) < 2 or check[0] in sys.argv[1:]])
