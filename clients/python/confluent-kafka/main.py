"""Kafka with confluent-kafka (librdkafka): produce, consume, compression, groups, admin, errors.

python main.py HOST:PORT   (or KOINE_KAFKA=HOST:PORT; usual: 127.0.0.1:9092)
"""

import os
import sys
import time

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))

from checks import TIMEOUT_S, address, run, same, unique, wait_until  # noqa: E402
from confluent_kafka import (  # noqa: E402
    OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition)
from confluent_kafka.admin import (  # noqa: E402
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType)

BROKER = address("KOINE_KAFKA", "127.0.0.1:9092")
COMMON = {"bootstrap.servers": BROKER, "broker.address.family": "v4"}
RECORDS = 100
# The first record's time. Recent: what is older than the retention time may go at any moment.
START_MS = int(time.time() * 1000) - 60_000
ADMIN = AdminClient(COMMON)


def done(futures):
    """The results of an admin call; the first refusal is raised."""
    return {name: future.result(TIMEOUT_S) for name, future in futures.items()}


def create_topic(name, partitions=1, config=None):
    done(ADMIN.create_topics([NewTopic(name, partitions, 1, config=config or {})]))


def refused(code, call):
    try:
        call()
    except KafkaException as error:
        same("error", error.args[0].name(), code)
    else:
        raise AssertionError(f"accepted, want {code}")


def body(i):
    return bytes([i % 256]) * (i * 10)


def headers(i):
    return [("number", str(i).encode()), ("null", None), ("number", b"again"), ("κλειδί", "ü".encode())]


def send_all(topic, settings=None, partitions=1):
    results = []
    producer = Producer({**COMMON, "enable.idempotence": True, "linger.ms": 5, **(settings or {})})
    for i in range(RECORDS):
        producer.produce(topic, body(i), f"key-{i}", partition=i % partitions, headers=headers(i),
                         timestamp=START_MS + i, on_delivery=lambda *result: results.append(result))
    same("left in the queue", producer.flush(TIMEOUT_S), 0)
    for error, _ in results:
        if error:
            raise KafkaException(error)
    return [(message.partition(), message.offset()) for _, message in results]


def consumer(group=None, **settings):
    return Consumer({**COMMON, "group.id": group or unique("group"), "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, **{key.replace("_", "."): v for key, v in settings.items()}})


def next_record(reader):
    record = reader.poll(TIMEOUT_S)
    if record is None:
        raise AssertionError(f"no record within {TIMEOUT_S} s")
    if record.error():
        raise KafkaException(record.error())
    return record


def produce_and_consume(settings=None):
    topic = unique("confluent")
    create_topic(topic)
    same("offsets", send_all(topic, settings), [(0, i) for i in range(RECORDS)])
    reader = consumer()
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    for i in range(RECORDS):
        record = next_record(reader)
        same("offset", record.offset(), i)
        same("key", record.key(), f"key-{i}".encode())
        same("body", record.value() or b"", body(i))
        same("headers", record.headers(), headers(i))
        same("timestamp", record.timestamp(), (1, START_MS + i))
    reader.close()


def null_and_empty():
    topic = unique("confluent-null")
    create_topic(topic)
    producer = Producer(COMMON)
    for key, value in [(None, None), (b"", b""), (b"k", None), (None, b"v")]:
        producer.produce(topic, value, key)
    producer.flush(TIMEOUT_S)
    reader = consumer()
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    got = [(record.key(), record.value()) for record in (next_record(reader) for _ in range(4))]
    same("records", got, [(None, None), (b"", b""), (b"k", None), (None, b"v")])
    reader.close()


def auto_create():
    topic, results = unique("confluent-auto"), []
    producer = Producer({**COMMON, "message.timeout.ms": TIMEOUT_S * 1000})
    producer.produce(topic, b"v", on_delivery=lambda *result: results.append(result))
    producer.flush(TIMEOUT_S)
    same("error", results[0][0], None)


def group():
    """Two members share four partitions and commit; a third starts where they stopped."""
    topic, name = unique("confluent-group"), unique("group")
    create_topic(topic, 4)
    send_all(topic, partitions=4)
    members = [consumer(name), consumer(name)]
    for member in members:
        member.subscribe([topic])
    seen = set()

    def read_some():
        for member in members:
            records = member.consume(RECORDS, 0.2)
            seen.update((record.partition(), record.offset()) for record in records if not record.error())
        return len(seen) == RECORDS and sorted(len(member.assignment()) for member in members) == [2, 2]

    wait_until("everything read and shared 2 to 2", read_some)
    for member in members:
        offsets = [TopicPartition(topic, p.partition, RECORDS // 4) for p in member.assignment()]
        member.commit(offsets=offsets, asynchronous=False)
    described = done(ADMIN.describe_consumer_groups([name]))[name]
    same("members", len(described.members), 2)
    for member in members:
        member.close()
    late = Producer(COMMON)
    late.produce(topic, b"late", partition=3)
    late.flush(TIMEOUT_S)
    successor = consumer(name)
    successor.subscribe([topic])
    same("first record after the commit", next_record(successor).value(), b"late")
    successor.close()
    listed = done(ADMIN.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)]))[name]
    same("committed", sorted(p.offset for p in listed.topic_partitions), [RECORDS // 4] * 4)
    done(ADMIN.delete_consumer_groups([name]))


def static_member():
    """A static member that comes back within the session timeout keeps its partitions without a rebalance."""
    topic, name = unique("confluent-static"), unique("group")
    create_topic(topic, 2)
    send_all(topic, partitions=2)
    first = consumer(name, group_instance_id="one")
    first.subscribe([topic])
    next_record(first)
    before = first.assignment()
    first.close()
    again = consumer(name, group_instance_id="one")
    again.subscribe([topic])
    next_record(again)
    same("assignment", again.assignment(), before)
    again.close()


def offsets_by_time():
    topic = unique("confluent-time")
    create_topic(topic)
    send_all(topic)
    reader = consumer()
    same("watermarks", reader.get_watermark_offsets(TopicPartition(topic, 0), TIMEOUT_S), (0, RECORDS))
    [found] = reader.offsets_for_times([TopicPartition(topic, 0, START_MS + 42)], TIMEOUT_S)
    same("offset at the time", found.offset, 42)
    reader.close()
    results = done(ADMIN.list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()}))
    same("offset of the greatest time", [result.offset for result in results.values()], [RECORDS - 1])


def admin_topics():
    topic = unique("confluent-admin")
    create_topic(topic, 2, {"retention.ms": "86400000"})
    done(ADMIN.create_partitions([NewPartitions(topic, 5)]))
    wait_until("five partitions", lambda: len(ADMIN.list_topics(topic, TIMEOUT_S).topics[topic].partitions) == 5)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    [config] = done(ADMIN.describe_configs([resource])).values()
    same("retention.ms", config["retention.ms"].value, "86400000")
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", "3600000", incremental_operation=AlterConfigOpType.SET)])
    done(ADMIN.incremental_alter_configs([change]))
    [config] = done(ADMIN.describe_configs([resource])).values()
    same("retention.ms", config["retention.ms"].value, "3600000")
    done(ADMIN.delete_topics([topic]))


def delete_records():
    topic = unique("confluent-delete")
    create_topic(topic)
    send_all(topic)
    done(ADMIN.delete_records([TopicPartition(topic, 0, 30)]))
    reader = consumer()
    same("watermarks", reader.get_watermark_offsets(TopicPartition(topic, 0), TIMEOUT_S), (30, RECORDS))
    reader.close()


def cluster():
    described = ADMIN.describe_cluster().result(TIMEOUT_S)
    same("nodes", len(described.nodes) >= 1 and bool(described.cluster_id), True)


def error_topic_exists():
    topic = unique("confluent-twice")
    create_topic(topic)
    refused("TOPIC_ALREADY_EXISTS", lambda: create_topic(topic))


def error_topic_name():
    refused("TOPIC_EXCEPTION", lambda: create_topic("not/a topic"))


def error_unknown_topic():
    refused("UNKNOWN_TOPIC_OR_PART", lambda: done(ADMIN.delete_topics([unique("nobody")])))


def error_too_large():
    topic = unique("confluent-large")
    create_topic(topic)
    refused("MSG_SIZE_TOO_LARGE", lambda: send_one_large(topic))


def send_one_large(topic):
    results = []
    producer = Producer({**COMMON, "message.max.bytes": 8_000_000})
    producer.produce(topic, b"\x07" * 2_000_000, on_delivery=lambda *result: results.append(result))
    producer.flush(TIMEOUT_S)
    if results[0][0]:
        raise KafkaException(results[0][0])


def error_out_of_range():
    topic = unique("confluent-range")
    create_topic(topic)
    reader = Consumer({**COMMON, "group.id": unique("range"), "auto.offset.reset": "error"})
    reader.assign([TopicPartition(topic, 0, 1_000_000)])
    record = reader.poll(TIMEOUT_S)
    same("error", record is not None and record.error().code(), KafkaError._AUTO_OFFSET_RESET)
    reader.close()


run([("produce-consume", produce_and_consume)]
    + [(f"compression-{codec}", lambda codec=codec: produce_and_consume({"compression.type": codec}))
       for codec in ("gzip", "snappy", "lz4", "zstd")]
    + [("null-and-empty", null_and_empty), ("auto-create", auto_create), ("group", group),
       ("static-member", static_member), ("offsets-by-time", offsets_by_time), ("admin-topics", admin_topics),
       ("delete-records", delete_records), ("cluster", cluster), ("error-topic-exists", error_topic_exists),
       ("error-topic-name", error_topic_name), ("error-unknown-topic", error_unknown_topic),
       ("error-too-large", error_too_large), ("error-out-of-range", error_out_of_range)])
