'use strict';
// Kafka with kafkajs: produce, consume, compression, groups, admin, errors.
//
// node main.js HOST:PORT   (or KOINE_KAFKA=HOST:PORT; usual: 127.0.0.1:9092)
process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const { Kafka, CompressionTypes, KafkaJSProtocolError, logLevel } = require('kafkajs');
const { address, refused, run, same, unique, until } = require('../checks');

const BROKER = address('KOINE_KAFKA', '127.0.0.1:9092');
const RECORDS = 100;
/** The first record's time. Recent: what is older than the retention time may go at any moment. */
const START_MS = Date.now() - 60_000;
const kafka = new Kafka({ clientId: 'kafkajs', brokers: [BROKER], logLevel: logLevel.NOTHING, retry: { retries: 5 } });
const admin = kafka.admin();

async function createTopic(topic, numPartitions = 1) {
  await admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: true });
}

const body = (i) => Buffer.alloc(i * 10, i % 256);

function records(partitions) {
  return Array.from({ length: RECORDS }, (_, i) => ({
    key: `key-${i}`,
    value: body(i),
    partition: i % partitions,
    timestamp: String(START_MS + i),
    headers: { number: String(i), 'κλειδί': Buffer.from([0, 255]) },
  }));
}

async function sendAll(topic, { partitions = 1, compression, ...settings } = {}) {
  const producer = kafka.producer(settings);
  await producer.connect();
  const sent = await producer.send({ topic, acks: -1, compression, messages: records(partitions) });
  await producer.disconnect();
  return sent;
}

/** Reads with a group of one until `count` records have come. */
async function readAll(topic, count, groupId = unique('group')) {
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 100, retry: { retries: 5 } });
  const read = [];
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ partition, message }) => read.push({ partition, ...message }) });
  await until(`${count} records`, () => read.length >= count);
  await consumer.disconnect();
  return read;
}

async function produceAndConsume(settings) {
  const topic = unique('kafkajs');
  await createTopic(topic);
  const [sent] = await sendAll(topic, settings);
  same('base offset', sent.baseOffset, '0');
  const read = await readAll(topic, RECORDS);
  for (const [i, record] of read.entries()) {
    same('offset', record.offset, String(i));
    same('key', record.key.toString(), `key-${i}`);
    same('body', record.value.equals(body(i)), true);
    same('time', record.timestamp, String(START_MS + i));
    same('header', record.headers.number.toString(), String(i));
    same('binary header', [...record.headers['κλειδί']], [0, 255]);
  }
}

async function nullAndEmpty() {
  const topic = unique('kafkajs-null');
  await createTopic(topic);
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages: [{ key: null, value: null }, { key: '', value: '' }] });
  await producer.disconnect();
  const read = await readAll(topic, 2);
  same('nulls', [read[0].key, read[0].value], [null, null]);
  same('empty', [read[1].key.length, read[1].value.length], [0, 0]);
}

async function autoCreate() {
  const producer = kafka.producer({ allowAutoTopicCreation: true });
  await producer.connect();
  const [sent] = await producer.send({ topic: unique('kafkajs-auto'), messages: [{ value: 'v' }] });
  same('base offset', sent.baseOffset, '0');
  await producer.disconnect();
}

/** A group reads and commits; its successor sees only what came later. */
async function group() {
  const [topic, groupId] = [unique('kafkajs-group'), unique('group')];
  await createTopic(topic, 3);
  await sendAll(topic, { partitions: 3 });
  same('read', new Set((await readAll(topic, RECORDS, groupId)).map((r) => `${r.partition}/${r.offset}`)).size, RECORDS);
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] });
  same('committed', partitions.map((p) => Number(p.offset)).reduce((a, b) => a + b), RECORDS);
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages: [{ value: 'late' }] });
  await producer.disconnect();
  same('late', (await readAll(topic, 1, groupId)).map((r) => r.value.toString()), ['late']);
  const { groups } = await admin.describeGroups([groupId]);
  same('state', groups[0].state, 'Empty');
  await admin.deleteGroups([groupId]);
}

/** Two members at once: each gets a share of the partitions. */
async function rebalance() {
  const [topic, groupId] = [unique('kafkajs-rebalance'), unique('group')];
  await createTopic(topic, 4);
  const assignments = [[], []];
  const members = [];
  for (const i of [0, 1]) {
    const consumer = kafka.consumer({ groupId, heartbeatInterval: 200, maxWaitTimeInMs: 100 });
    consumer.on(consumer.events.GROUP_JOIN, (event) => {
      assignments[i] = event.payload.memberAssignment[topic] || [];
    });
    await consumer.connect();
    await consumer.subscribe({ topics: [topic] });
    await consumer.run({ eachMessage: async () => {} });
    members.push(consumer);
  }
  await until('two partitions each', () => assignments.every((list) => list.length === 2));
  same('all', assignments.flat().sort(), [0, 1, 2, 3]);
  await Promise.all(members.map((member) => member.disconnect()));
}

async function offsets() {
  const topic = unique('kafkajs-offsets');
  await createTopic(topic);
  await sendAll(topic);
  const [marks] = await admin.fetchTopicOffsets(topic);
  same('marks', [marks.low, marks.high], ['0', String(RECORDS)]);
  const [found] = await admin.fetchTopicOffsetsByTimestamp(topic, START_MS + 42);
  same('by time', found.offset, '42');
}

async function adminTopics() {
  const topic = unique('kafkajs-admin');
  await createTopic(topic, 2);
  await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] });
  const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length;
  await until('four partitions', async () => (await partitions()) === 4);
  const { resources } = await admin.describeConfigs({ resources: [{ type: 2, name: topic }] });
  same('has configs', resources[0].configEntries.length > 5, true);
  await admin.deleteTopics({ topics: [topic] });
  await until('gone', async () => !(await admin.listTopics()).includes(topic));
}

const protocolError = (type) => (error) => {
  const inner = error instanceof KafkaJSProtocolError ? error : (error.errors || [])[0] || error.cause || error;
  return inner.type === type;
};

async function errorTopicName() {
  await refused(admin.createTopics({ topics: [{ topic: 'not/a topic' }] }), protocolError('INVALID_TOPIC_EXCEPTION'));
}

/** kafkajs answers `false`, not an error, for a topic that exists. */
async function errorTopicExists() {
  const topic = unique('kafkajs-twice');
  await createTopic(topic);
  same('created again', await admin.createTopics({ topics: [{ topic }] }), false);
}

async function errorTooLarge() {
  const topic = unique('kafkajs-large');
  await createTopic(topic);
  const producer = kafka.producer();
  await producer.connect();
  const messages = [{ value: Buffer.alloc(2_000_000, 7) }];
  await refused(producer.send({ topic, messages }), protocolError('MESSAGE_TOO_LARGE'));
  await producer.disconnect();
}

async function errorUnknownTopic() {
  await refused(admin.deleteTopics({ topics: [unique('nobody')] }), protocolError('UNKNOWN_TOPIC_OR_PARTITION'));
}

async function main() {
  await admin.connect();
  await run([
    ['produce-consume', () => produceAndConsume()],
    ['compression-gzip', () => produceAndConsume({ compression: CompressionTypes.GZIP })],
    ['idempotent', () => produceAndConsume({ idempotent: true })],
    ['null-and-empty', nullAndEmpty],
    ['auto-create', autoCreate],
    ['group', group],
    ['rebalance', rebalance],
    ['offsets', offsets],
    ['admin-topics', adminTopics],
    ['error-topic-name', errorTopicName],
    ['error-topic-exists', errorTopicExists],
    ['error-too-large', errorTooLarge],
    ['error-unknown-topic', errorUnknownTopic],
  ]);
}

main().catch((error) => {
  console.log(`FAIL connect: ${error.message}`);
  process.exit(1);
});
