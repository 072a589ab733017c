'use strict';
// Logs in with kafkajs, amqplib or mqtt.js, over TLS if told so, and says what became of it.
//
// node main.js LIBRARY MODE HOST:PORT [key=value ...]
//
// LIBRARY is kafkajs, amqplib or mqtt. MODE is
//   login    writes a message and reads it back
//   refused  expects the library's own error for a login that failed
//   revoked  works until the user has lost its rights: says `ready` at first and `lost` at the end
// Keys: user, password, mechanism (PLAIN, AMQPLAIN, SCRAM-SHA-256, SCRAM-SHA-512, EXTERNAL), ca, cert, key.
process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const { once } = require('node:events');
const { readFileSync } = require('node:fs');
const { pause, refused, same, unique, until, within } = require('../checks');

const [LIBRARY, MODE, ADDRESS, ...REST] = process.argv.slice(2);
const OPTIONS = Object.fromEntries(REST.map((argument) => argument.split(/=(.*)/s).slice(0, 2)));
const [HOST, PORT] = ADDRESS.split(':');
const NAME = unique('secure');
/** A write that takes longer counts as refused: the client tries again in vain. */
const WRITE_LIMIT_MS = 500;

/** What `tls.connect` takes, or nothing without a certificate authority. */
function tlsOptions() {
  const given = ['ca', 'cert', 'key'].filter((name) => OPTIONS[name]);
  return given.length ? Object.fromEntries(given.map((name) => [name, readFileSync(OPTIONS[name])])) : undefined;
}

async function kafka() {
  const { Kafka, KafkaJSSASLAuthenticationError, logLevel } = require('kafkajs');
  const { user: username, password, mechanism = 'PLAIN' } = OPTIONS;
  const client = new Kafka({
    brokers: [ADDRESS],
    ssl: tlsOptions(),
    sasl: mechanism === 'EXTERNAL' ? undefined : { mechanism: mechanism.toLowerCase(), username, password },
    logLevel: logLevel.NOTHING,
    retry: { retries: MODE === 'login' ? 5 : 0 },
  });
  const producer = client.producer({ allowAutoTopicCreation: true });
  if (MODE === 'refused') {
    return refused(producer.connect(), (error) => error instanceof KafkaJSSASLAuthenticationError);
  }
  const admin = client.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic: NAME }], waitForLeaders: true });
  await producer.connect();
  const write = () => producer.send({ topic: NAME, messages: [{ value: 'body' }] });
  await write();
  if (MODE === 'revoked') {
    console.log('ready');
    try {
      for (;;) {
        await within('write', write(), WRITE_LIMIT_MS);
        await pause(1);
      }
    } catch (error) {
      console.error(String(error));
    }
    return console.log('lost');
  }
  const consumer = client.consumer({ groupId: NAME, maxWaitTimeInMs: 100 });
  const read = [];
  await consumer.connect();
  await consumer.subscribe({ topics: [NAME], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => read.push(message.value.toString()) });
  await until('a record', () => read.length > 0);
  same('records', read, ['body']);
  await consumer.disconnect();
}

async function amqp() {
  const amqplib = require('amqplib');
  const { user, password, mechanism = 'PLAIN' } = OPTIONS;
  const { plain, amqplain, external } = amqplib.credentials;
  const credentials = { PLAIN: plain, AMQPLAIN: amqplain, EXTERNAL: external }[mechanism](user, password);
  const tls = tlsOptions();
  const connecting = amqplib.connect(`${tls ? 'amqps' : 'amqp'}://${HOST}:${PORT}`, { ...tls, credentials });
  if (MODE === 'refused') {
    // The library has no class for it: what came is in the text.
    return refused(connecting, (error) => /Handshake terminated by server: 403 \(ACCESS-REFUSED\)/.test(error.message));
  }
  const connection = await within('connect', connecting);
  connection.on('error', (error) => console.error(String(error)));
  const ended = once(connection, 'close');
  const channel = await connection.createConfirmChannel();
  channel.on('error', (error) => console.error(String(error)));
  await channel.assertQueue(NAME, { durable: true });
  channel.sendToQueue(NAME, Buffer.from('body'));
  await channel.waitForConfirms();
  const read = [];
  await channel.consume(NAME, (message) => message && read.push(message.content.toString()), { noAck: true });
  await until('a delivery', () => read.length > 0);
  same('deliveries', read, ['body']);
  if (MODE === 'revoked') return untilLost(ended);
  await connection.close();
}

async function untilLost(ended) {
  console.log('ready');
  await within('the end', ended);
  console.log('lost');
}

async function mqtt() {
  const library = require('mqtt');
  const tls = tlsOptions();
  const { user: username, password } = OPTIONS;
  const settings = { protocolVersion: 5, reconnectPeriod: 0, clientId: NAME, username, password, ...tls };
  const client = library.connect(`${tls ? 'mqtts' : 'mqtt'}://${ADDRESS}`, settings);
  const connected = once(client, 'connect'); // rejected by the event `error`
  if (MODE === 'refused') {
    const { ErrorWithReasonCode } = library;
    return refused(connected, (error) => error instanceof ErrorWithReasonCode && [0x86, 0x87].includes(error.code));
  }
  await within('connect', connected);
  client.on('error', (error) => console.error(String(error)));
  const ended = once(client, 'close');
  const read = [];
  client.on('message', (_, payload) => read.push(payload.toString()));
  const topic = NAME.replaceAll('.', '/');
  await client.subscribeAsync(topic, { qos: 1 });
  await client.publishAsync(topic, 'body', { qos: 1 });
  await until('the message', () => read.length > 0);
  same('messages', read, ['body']);
  if (MODE === 'revoked') return untilLost(ended);
  await client.endAsync();
}

async function main() {
  await { kafkajs: kafka, amqplib: amqp, mqtt }[LIBRARY]();
  console.log(`ok ${LIBRARY} ${MODE}`);
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
