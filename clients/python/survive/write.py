"""Writes numbered messages through Kafka, AMQP and MQTT until it is stopped, and notes each acknowledged one.

python write.py NAME ACKNOWLEDGED_FILE    with KOINE_KAFKA, KOINE_AMQP and KOINE_MQTT = HOST:PORT

NAME.kafka is a topic, NAME.amqp a durable queue, NAME/mqtt is kept for the lasting session NAME. A line
`PROTOCOL NUMBER` is appended to the file when the broker has acknowledged that number and not before.
"""

import os
import sys
import threading
import time

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))

import pika  # noqa: E402
from checks import TIMEOUT_S, host_and_port  # noqa: E402
from confluent_kafka import Producer  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from paho.mqtt import client as mqtt  # noqa: E402
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402

NAME, NOTES = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
KAFKA, AMQP, MQTT = (os.environ[f"KOINE_{protocol}"] for protocol in ("KAFKA", "AMQP", "MQTT"))


def note(protocol, number):
    os.write(NOTES, f"{protocol} {number}\n".encode())


def write_kafka():
    common = {"bootstrap.servers": KAFKA, "broker.address.family": "v4"}
    topic = f"{NAME}.kafka"
    admin = AdminClient(common)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(TIMEOUT_S)
    producer = Producer({**common, "acks": "all", "enable.idempotence": True, "linger.ms": 1})
    number = 0
    while True:
        def delivered(error, _message, number=number):
            if error is None:
                note("kafka", number)
        producer.produce(topic, str(number).encode(), on_delivery=delivered)
        producer.poll(0.001)
        number += 1


def write_amqp():
    parameters = pika.ConnectionParameters(*host_and_port(AMQP), "/", pika.PlainCredentials("guest", "guest"))
    channel = pika.BlockingConnection(parameters).channel()
    channel.queue_declare(f"{NAME}.amqp", durable=True)
    channel.confirm_delivery()
    number = 0
    while True:
        channel.basic_publish("", f"{NAME}.amqp", str(number).encode(), pika.BasicProperties(delivery_mode=2))
        note("amqp", number)
        number += 1


def write_mqtt():
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600
    reader = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, NAME, protocol=mqtt.MQTTv5)
    ready = threading.Event()
    reader.on_connect = lambda *_: reader.subscribe(f"{NAME}/mqtt", 1)
    reader.on_subscribe = lambda *_: ready.set()
    reader.connect(*host_and_port(MQTT), 60, clean_start=True, properties=session)
    reader.loop_start()
    ready.wait(TIMEOUT_S)
    reader.disconnect()
    reader.loop_stop()
    writer = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"{NAME}-writer", protocol=mqtt.MQTTv5,
                         reconnect_on_failure=False)
    writer.connect(*host_and_port(MQTT), 60)
    writer.loop_start()
    number = 0
    while True:
        info = writer.publish(f"{NAME}/mqtt", str(number), 1)
        info.wait_for_publish(TIMEOUT_S)
        if info.is_published():
            note("mqtt", number)
        number += 1


for work in (write_kafka, write_amqp, write_mqtt):
    threading.Thread(target=work, daemon=True).start()
time.sleep(600)
