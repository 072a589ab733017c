"""Reads what write.py wrote and checks that every acknowledged number is there, in order.

python read.py NAME ACKNOWLEDGED_FILE    with KOINE_KAFKA, KOINE_AMQP and KOINE_MQTT = HOST:PORT

More than what was acknowledged may be there: a message can be stored and its acknowledgement lost.
"""

import os
import queue
import sys

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))

import pika  # noqa: E402
from checks import TIMEOUT_S, host_and_port, run  # noqa: E402
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition  # noqa: E402
from paho.mqtt import client as mqtt  # noqa: E402
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402

NAME = sys.argv[1]
KAFKA, AMQP, MQTT = (os.environ[f"KOINE_{protocol}"] for protocol in ("KAFKA", "AMQP", "MQTT"))
ACKNOWLEDGED = {"kafka": [], "amqp": [], "mqtt": []}
with open(sys.argv[2], encoding="ascii") as notes:
    for line in notes.read().splitlines():
        protocol, number = line.split()
        ACKNOWLEDGED[protocol].append(int(number))


def check(protocol, read, duplicates=False):
    want = ACKNOWLEDGED[protocol]
    if not want:
        raise AssertionError("nothing was acknowledged")
    missing = sorted(set(want) - set(read))
    if missing:
        raise AssertionError(f"{len(missing)} of {len(want)} acknowledged are missing, first {missing[:5]}")
    if not duplicates and len(set(read)) != len(read):
        raise AssertionError(f"{len(read) - len(set(read))} duplicates")
    first_seen = list(dict.fromkeys(read))
    if first_seen != sorted(first_seen):
        raise AssertionError("out of order")
    print(f"# {protocol}: {len(want)} acknowledged, {len(read)} read")


def read_kafka():
    consumer = Consumer({"bootstrap.servers": KAFKA, "broker.address.family": "v4", "group.id": f"{NAME}-reader",
                         "enable.partition.eof": True})
    consumer.assign([TopicPartition(f"{NAME}.kafka", 0, OFFSET_BEGINNING)])
    read = []
    while (record := consumer.poll(TIMEOUT_S)) is not None and not record.error():
        read.append(int(record.value()))
    check("kafka", read)


def read_amqp():
    parameters = pika.ConnectionParameters(*host_and_port(AMQP), "/", pika.PlainCredentials("guest", "guest"))
    channel = pika.BlockingConnection(parameters).channel()
    left = channel.queue_declare(f"{NAME}.amqp", passive=True).method.message_count
    read = []
    for method, _, body in channel.consume(f"{NAME}.amqp", auto_ack=True, inactivity_timeout=TIMEOUT_S):
        if method is None:
            break
        read.append(int(body))
        if len(read) == left:
            break
    check("amqp", read)


def read_mqtt():
    inbox, session = queue.Queue(), Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600
    reader = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, NAME, protocol=mqtt.MQTTv5)
    reader.on_message = lambda _client, _data, message: inbox.put(int(message.payload))
    reader.connect(*host_and_port(MQTT), 60, clean_start=False, properties=session)
    reader.loop_start()
    read, wanted = [], max(ACKNOWLEDGED["mqtt"])
    try:
        while not read or read[-1] < wanted:
            read.append(inbox.get(timeout=TIMEOUT_S))
        while True:
            read.append(inbox.get(timeout=1))
    except queue.Empty:
        pass
    check("mqtt", read)


run([("kafka-survives", read_kafka), ("amqp-survives", read_amqp), ("mqtt-survives", read_mqtt)])
