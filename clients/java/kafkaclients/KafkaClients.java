package kafkaclients;

import static checks.Checks.TIMEOUT_MS;
import static checks.Checks.refused;
import static checks.Checks.same;
import static checks.Checks.unique;
import static checks.Checks.until;

import checks.Checks;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka with the Java client: produce (idempotent by default), consume, compression, groups, admin, errors.
 *
 * <p>{@code java kafkaclients.KafkaClients HOST:PORT}, or {@code KOINE_KAFKA=HOST:PORT}; usual: 127.0.0.1:9092.
 */
public final class KafkaClients {
    private static final int RECORDS = 100;
    /** The first record's time. Recent: what is older than the retention time may go at any moment. */
    private static final long START_MS = System.currentTimeMillis() - 60_000;
    private static String broker;
    private static Admin admin;

    private KafkaClients() {}

    private static Properties settings(String... pairs) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", broker);
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put(pairs[i], pairs[i + 1]);
        }
        return settings;
    }

    private static KafkaProducer<byte[], byte[]> producer(String... pairs) {
        return new KafkaProducer<>(settings(pairs), new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String... pairs) {
        Properties settings = settings("auto.offset.reset", "earliest", "enable.auto.commit", "false");
        settings.putAll(settings(pairs));
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static void createTopic(String name, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] body(int i) {
        byte[] body = new byte[i * 10];
        Arrays.fill(body, (byte) i);
        return body;
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, int i, int partitions) {
        ProducerRecord<byte[], byte[]> record =
                new ProducerRecord<>(topic, i % partitions, START_MS + i, utf8("key-" + i), body(i));
        record.headers().add("number", utf8("" + i)).add("null", null).add("number", utf8("κοινή"));
        return record;
    }

    private static void sendAll(String topic, int partitions, String... pairs) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(pairs)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < RECORDS; i++) {
                sent.add(producer.send(record(topic, i, partitions)));
            }
            for (int i = 0; i < RECORDS; i++) {
                same("offset", sent.get(i).get().offset(), (long) (i / partitions));
            }
        }
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        until(count + " records", () -> {
            consumer.poll(Duration.ofMillis(200)).forEach(read::add);
            return read.size() >= count;
        });
        return read;
    }

    private static void produceAndConsume(String... pairs) throws Exception {
        String topic = unique("kafka-clients");
        createTopic(topic, 1);
        sendAll(topic, 1, pairs);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            List<ConsumerRecord<byte[], byte[]>> read = read(consumer, RECORDS);
            for (int i = 0; i < RECORDS; i++) {
                ConsumerRecord<byte[], byte[]> got = read.get(i);
                ProducerRecord<byte[], byte[]> want = record(topic, i, 1);
                same("offset", got.offset(), (long) i);
                same("key", got.key(), want.key());
                same("body", got.value(), want.value());
                same("time", got.timestamp(), want.timestamp());
                same("headers", got.headers().toArray(), want.headers().toArray());
            }
        }
    }

    private static void nullAndEmpty() throws Exception {
        String topic = unique("kafka-clients-null");
        createTopic(topic, 1);
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.send(new ProducerRecord<>(topic, null, null)).get();
            producer.send(new ProducerRecord<>(topic, new byte[0], new byte[0])).get();
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            List<ConsumerRecord<byte[], byte[]>> read = read(consumer, 2);
            same("nulls", new Object[] {read.get(0).key(), read.get(0).value()}, new Object[] {null, null});
            same("empty", new Object[] {read.get(1).key(), read.get(1).value()}, new Object[] {new byte[0], new byte[0]});
        }
    }

    private static void autoCreate() throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            same("offset", producer.send(new ProducerRecord<>(unique("kafka-clients-auto"), utf8("v"))).get().offset(), 0L);
        }
    }

    /** Two members share the partitions and commit; a third sees only what came later. */
    private static void group() throws Exception {
        String topic = unique("kafka-clients-group");
        String group = unique("group");
        createTopic(topic, 4);
        sendAll(topic, 4);
        KafkaConsumer<byte[], byte[]> one = consumer("group.id", group);
        KafkaConsumer<byte[], byte[]> two = consumer("group.id", group);
        one.subscribe(List.of(topic));
        two.subscribe(List.of(topic));
        Set<String> seen = new HashSet<>();
        until("all read and shared 2 to 2", () -> {
            for (KafkaConsumer<byte[], byte[]> member : List.of(one, two)) {
                member.poll(Duration.ofMillis(100)).forEach(r -> seen.add(r.partition() + "/" + r.offset()));
            }
            return seen.size() == RECORDS && one.assignment().size() == 2 && two.assignment().size() == 2;
        });
        for (KafkaConsumer<byte[], byte[]> member : List.of(one, two)) {
            Map<TopicPartition, OffsetAndMetadata> offsets = new LinkedHashMap<>();
            member.assignment().forEach(p -> offsets.put(p, new OffsetAndMetadata(RECORDS / 4, Optional.empty(), "note")));
            member.commitSync(offsets);
        }
        same("members", admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(), 2);
        one.close();
        two.close();
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.send(new ProducerRecord<>(topic, 3, null, utf8("late"))).get();
        }
        try (KafkaConsumer<byte[], byte[]> successor = consumer("group.id", group)) {
            successor.subscribe(List.of(topic));
            same("after the commit", read(successor, 1).get(0).value(), utf8("late"));
        }
        Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        same("committed", committed.get(new TopicPartition(topic, 0)).metadata(), "note");
        admin.deleteConsumerGroupOffsets(group, Set.of(new TopicPartition(topic, 0))).all().get();
        admin.deleteConsumerGroups(List.of(group)).all().get();
    }

    private static void offsets() throws Exception {
        String topic = unique("kafka-clients-offsets");
        createTopic(topic, 1);
        sendAll(topic, 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        Map<OffsetSpec, Long> wanted = new LinkedHashMap<>();
        wanted.put(OffsetSpec.earliest(), 0L);
        wanted.put(OffsetSpec.latest(), (long) RECORDS);
        wanted.put(OffsetSpec.maxTimestamp(), RECORDS - 1L);
        wanted.put(OffsetSpec.forTimestamp(START_MS + 42), 42L);
        for (Map.Entry<OffsetSpec, Long> want : wanted.entrySet()) {
            same("offset", admin.listOffsets(Map.of(partition, want.getKey())).partitionResult(partition).get().offset(),
                    want.getValue());
        }
        long low = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(30)))
                .lowWatermarks().get(partition).get().lowWatermark();
        same("low watermark", low, 30L);
    }

    private static void adminTopics() throws Exception {
        String topic = unique("kafka-clients-admin");
        createTopic(topic, 2);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        same("partitions", admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), 5);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        AlterConfigOp set = new AlterConfigOp(new ConfigEntry("retention.ms", "3600000"), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
        same("retention.ms",
                admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value(), "3600000");
        admin.deleteTopics(List.of(topic)).all().get();
    }

    private static void cluster() throws Exception {
        KafkaFuture<String> id = admin.describeCluster().clusterId();
        same("has an id", !id.get().isEmpty(), true);
        same("has nodes", !admin.describeCluster().nodes().get().isEmpty(), true);
    }

    private static void errorTopicExists() throws Exception {
        String topic = unique("kafka-clients-twice");
        createTopic(topic, 1);
        refused(TopicExistsException.class, () -> createTopic(topic, 1));
    }

    private static void errorTopicName() throws Exception {
        refused(InvalidTopicException.class, () -> createTopic("not/a topic", 1));
    }

    private static void errorUnknownTopic() throws Exception {
        refused(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(unique("nobody"))).all().get());
    }

    private static void errorTooLarge() throws Exception {
        String topic = unique("kafka-clients-large");
        createTopic(topic, 1);
        try (KafkaProducer<byte[], byte[]> producer = producer("max.request.size", "8000000")) {
            refused(RecordTooLargeException.class,
                    () -> producer.send(new ProducerRecord<>(topic, new byte[2_000_000])).get());
        }
    }

    private static void errorOutOfRange() throws Exception {
        String topic = unique("kafka-clients-range");
        createTopic(topic, 1);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("auto.offset.reset", "none")) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            consumer.seek(new TopicPartition(topic, 0), 1_000_000);
            refused(OffsetOutOfRangeException.class,
                    () -> until("error", () -> !consumer.poll(Duration.ofMillis(200)).isEmpty()));
        }
    }

    public static void main(String[] arguments) {
        broker = Checks.address(arguments, "KOINE_KAFKA", "127.0.0.1:9092");
        admin = Admin.create(settings("default.api.timeout.ms", "" + TIMEOUT_MS, "request.timeout.ms", "10000"));
        Map<String, Checks.Check> checks = new LinkedHashMap<>();
        checks.put("produce-consume", () -> produceAndConsume("linger.ms", "5"));
        for (String codec : List.of("gzip", "snappy", "lz4", "zstd")) {
            checks.put("compression-" + codec, () -> produceAndConsume("linger.ms", "5", "compression.type", codec));
        }
        checks.put("not-idempotent", () -> produceAndConsume("enable.idempotence", "false"));
        checks.put("null-and-empty", KafkaClients::nullAndEmpty);
        checks.put("auto-create", KafkaClients::autoCreate);
        checks.put("group", KafkaClients::group);
        checks.put("offsets", KafkaClients::offsets);
        checks.put("admin-topics", KafkaClients::adminTopics);
        checks.put("cluster", KafkaClients::cluster);
        checks.put("error-topic-exists", KafkaClients::errorTopicExists);
        checks.put("error-topic-name", KafkaClients::errorTopicName);
        checks.put("error-unknown-topic", KafkaClients::errorUnknownTopic);
        checks.put("error-too-large", KafkaClients::errorTooLarge);
        checks.put("error-out-of-range", KafkaClients::errorOutOfRange);
        Checks.run(checks);
    }
}
