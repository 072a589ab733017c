"""Kafka with kafka-python: produce, consume, compression, groups, admin, errors.

python main.py HOST:PORT   (or KOINE_KAFKA=HOST:PORT; usual: 127.0.0.1:9092)
"""

import logging
import os
import sys
import time

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))

from checks import TIMEOUT_S, address, run, same, unique, wait_until  # noqa: E402
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition  # noqa: E402
from kafka.admin import NewPartitions, NewTopic  # noqa: E402
from kafka.errors import (  # noqa: E402
    InvalidTopicError, KafkaError, MessageSizeTooLargeError, OffsetOutOfRangeError, TopicAlreadyExistsError,
    UnknownTopicOrPartitionError)

logging.getLogger("kafka").setLevel(logging.CRITICAL)
BROKER = address("KOINE_KAFKA", "127.0.0.1:9092")
RECORDS = 100
# The first record's time. Recent: what is older than the retention time may go at any moment.
START_MS = int(time.time() * 1000) - 60_000
ADMIN = KafkaAdminClient(bootstrap_servers=BROKER)


def create_topic(name, partitions=1):
    ADMIN.create_topics([NewTopic(name, partitions, 1)])


def refused(error_type, call):
    try:
        call()
    except KafkaError as error:
        if not isinstance(error, error_type):
            raise
    else:
        raise AssertionError(f"accepted, want {error_type.__name__}")


def body(i):
    return bytes([i % 256]) * (i * 10)


def headers(i):
    return [("number", str(i).encode()), ("number", b"again"), ("empty", b"")]


def send_all(topic, partitions=1, **settings):
    producer = KafkaProducer(bootstrap_servers=BROKER, acks="all", linger_ms=5, **settings)
    futures = [producer.send(topic, body(i), f"key-{i}".encode(), headers(i), i % partitions, START_MS + i)
               for i in range(RECORDS)]
    sent = [future.get(TIMEOUT_S) for future in futures]
    producer.close()
    return [(metadata.partition, metadata.offset) for metadata in sent]


def consumer(**settings):
    return KafkaConsumer(bootstrap_servers=BROKER, auto_offset_reset="earliest", enable_auto_commit=False,
                         consumer_timeout_ms=TIMEOUT_S * 1000, **settings)


def produce_and_consume(**settings):
    topic = unique("kafka-python")
    create_topic(topic)
    same("offsets", send_all(topic, **settings), [(0, i) for i in range(RECORDS)])
    reader = consumer()
    reader.assign([TopicPartition(topic, 0)])
    for i in range(RECORDS):
        record = next(reader)
        got = (record.offset, record.key, record.value, list(record.headers), record.timestamp)
        same("record", got, (i, f"key-{i}".encode(), body(i), headers(i), START_MS + i))
    reader.close()


def auto_create():
    producer = KafkaProducer(bootstrap_servers=BROKER)
    same("offset", producer.send(unique("kafka-python-auto"), b"v").get(TIMEOUT_S).offset, 0)
    producer.close()


def group():
    """One member reads and commits; its successor starts where it stopped."""
    topic, name = unique("kafka-python-group"), unique("group")
    create_topic(topic, 2)
    send_all(topic, 2)
    member = consumer(group_id=name)
    member.subscribe([topic])
    seen = {(record.partition, record.offset) for record, _ in zip(member, range(RECORDS))}
    same("records", len(seen), RECORDS)
    position = OffsetAndMetadata(RECORDS // 2, "half", -1)
    member.commit({TopicPartition(topic, 0): position, TopicPartition(topic, 1): position})
    same("described", ADMIN.describe_groups([name])[name]["group_state"], "Stable")
    member.close()
    committed = ADMIN.list_group_offsets([name])[name]
    same("committed", sorted((p.partition, o.offset, o.metadata) for p, o in committed.items()),
         [(0, RECORDS // 2, "half"), (1, RECORDS // 2, "half")])
    producer = KafkaProducer(bootstrap_servers=BROKER)
    producer.send(topic, b"late", partition=1).get(TIMEOUT_S)
    producer.close()
    successor = consumer(group_id=name)
    successor.subscribe([topic])
    same("first record after the commit", next(successor).value, b"late")
    successor.close()
    ADMIN.delete_groups([name])


def seek_by_time():
    topic = unique("kafka-python-time")
    create_topic(topic)
    send_all(topic)
    partition, reader = TopicPartition(topic, 0), consumer()
    reader.assign([partition])
    same("end", reader.end_offsets([partition])[partition], RECORDS)
    same("offset", reader.offsets_for_times({partition: START_MS + 42})[partition].offset, 42)
    reader.seek(partition, 77)
    same("after seek", next(reader).offset, 77)
    reader.close()


def admin_topics():
    topic = unique("kafka-python-admin")
    create_topic(topic, 2)
    ADMIN.create_partitions({topic: NewPartitions(4)})
    wait_until("four partitions", lambda: len(ADMIN.describe_topics([topic])[0]["partitions"]) == 4)
    ADMIN.delete_topics([topic])
    wait_until("gone", lambda: topic not in ADMIN.list_topics())


def error_topic_exists():
    topic = unique("kafka-python-twice")
    create_topic(topic)
    refused(TopicAlreadyExistsError, lambda: create_topic(topic))


def error_topic_name():
    refused(InvalidTopicError, lambda: create_topic("not/a topic"))


def error_unknown_topic():
    refused(UnknownTopicOrPartitionError, lambda: ADMIN.delete_topics([unique("nobody")]))


def error_too_large():
    topic = unique("kafka-python-large")
    create_topic(topic)
    producer = KafkaProducer(bootstrap_servers=BROKER, max_request_size=8_000_000)
    refused(MessageSizeTooLargeError, lambda: producer.send(topic, b"\x07" * 2_000_000).get(TIMEOUT_S))
    producer.close()


def error_out_of_range():
    topic = unique("kafka-python-range")
    create_topic(topic)
    reader = KafkaConsumer(bootstrap_servers=BROKER, auto_offset_reset="none", enable_auto_commit=False)
    reader.assign([TopicPartition(topic, 0)])
    reader.seek(TopicPartition(topic, 0), 1_000_000)
    refused(OffsetOutOfRangeError, lambda: wait_until("error", lambda: reader.poll(500)))
    reader.close()


run([("produce-consume", produce_and_consume)]
    + [(f"compression-{codec}", lambda codec=codec: produce_and_consume(compression_type=codec))
       for codec in ("gzip", "snappy", "lz4", "zstd")]
    + [("idempotent", lambda: produce_and_consume(enable_idempotence=True)), ("auto-create", auto_create),
       ("group", group), ("seek-by-time", seek_by_time), ("admin-topics", admin_topics),
       ("error-topic-exists", error_topic_exists), ("error-topic-name", error_topic_name),
       ("error-unknown-topic", error_unknown_topic), ("error-too-large", error_too_large),
       ("error-out-of-range", error_out_of_range)])
