'use strict';
// MQTT 3.1.1 and 5 with mqtt.js, over TCP and over WebSocket.
//
// node main.js HOST:PORT   (or KOINE_MQTT=HOST:PORT; usual: 127.0.0.1:1883)
// WebSocket: ws://HOST:PORT/mqtt, or the whole URL in KOINE_MQTT_WS.
const { once } = require('node:events');
const mqtt = require('mqtt');
const { address, pause, run, same, unique, until, within } = require('../checks');

const BROKER = address('KOINE_MQTT', '127.0.0.1:1883');
const URLS = { tcp: `mqtt://${BROKER}`, ws: process.env.KOINE_MQTT_WS || `ws://${BROKER}/mqtt` };
const SILENCE_MS = 300;

/** A connected client that keeps what it receives in `messages`. */
async function connect(transport, options = {}) {
  const settings = { protocolVersion: 5, reconnectPeriod: 0, clientId: unique('mqttjs'), connectTimeout: 10_000, ...options };
  const client = mqtt.connect(URLS[transport], settings);
  const messages = [];
  client.on('error', () => {}); // each check looks at what it expects
  client.on('message', (topic, payload, packet) => messages.push(packet));
  const [connack] = await within('connect', Promise.race([
    once(client, 'connect'),
    once(client, 'close').then(() => Promise.reject(new Error('closed before CONNACK'))),
  ]));
  return { client, messages, connack };
}

async function received(reader, count) {
  await until(`${count} messages`, () => reader.messages.length >= count);
  await pause(SILENCE_MS);
  return reader.messages.splice(0).map((packet) => packet.payload.toString());
}

async function quality(transport, protocolVersion, qos) {
  const topic = unique('mqttjs/quality');
  const both = await connect(transport, { protocolVersion });
  const [granted] = await both.client.subscribeAsync(topic, { qos });
  same('granted', granted.qos, qos);
  for (const size of [0, 1, 1_000, 300_000]) {
    await both.client.publishAsync(topic, Buffer.alloc(size, 9), { qos });
    await until('message', () => both.messages.length > 0);
    const [packet] = both.messages.splice(0);
    same('message', [packet.topic, packet.payload.length, packet.qos], [topic, size, qos]);
  }
  await both.client.endAsync();
}

async function wildcards(transport) {
  const root = unique('mqttjs-wild');
  const both = await connect(transport);
  await both.client.subscribeAsync(`${root}/+/tail/#`, { qos: 1 });
  for (const topic of ['a/tail', 'a/b/tail', 'b/tail/x/y', 'other']) {
    await both.client.publishAsync(`${root}/${topic}`, topic, { qos: 1 });
  }
  same('matched', await received(both, 2), ['a/tail', 'b/tail/x/y']);
  await both.client.endAsync();
}

async function retained(transport) {
  const topic = unique('mqttjs/retained');
  const writer = await connect(transport);
  await writer.client.publishAsync(topic, 'on', { qos: 1, retain: true });
  const reader = await connect(transport);
  await reader.client.subscribeAsync(topic, { qos: 1 });
  await until('retained', () => reader.messages.length === 1);
  same('retain flag', reader.messages[0].retain, true);
  await writer.client.publishAsync(topic, '', { qos: 1, retain: true });
  const late = await connect(transport);
  await late.client.subscribeAsync(topic, { qos: 1 });
  same('cleared', await received(late, 0), []);
}

async function will(transport) {
  const topic = unique('mqttjs/will');
  const reader = await connect(transport);
  await reader.client.subscribeAsync(topic, { qos: 1 });
  const mortal = await connect(transport, { will: { topic, payload: Buffer.from('gone'), qos: 1 } });
  mortal.client.stream.destroy();
  same('will', await received(reader, 1), ['gone']);
}

async function session(transport, protocolVersion) {
  const topic = unique('mqttjs/session');
  const options = { protocolVersion, clientId: unique('lasting'), clean: false };
  if (protocolVersion === 5) options.properties = { sessionExpiryInterval: 3600 };
  const first = await connect(transport, options);
  same('no session yet', first.connack.sessionPresent, false);
  await first.client.subscribeAsync(topic, { qos: 2 });
  await first.client.endAsync();
  const writer = await connect(transport);
  await writer.client.publishAsync(topic, 'one', { qos: 1 });
  await writer.client.publishAsync(topic, 'two', { qos: 1 });
  const again = await connect(transport, options);
  same('session present', again.connack.sessionPresent, true);
  same('waiting', await received(again, 2), ['one', 'two']);
}

async function shared(transport) {
  const topic = unique('mqttjs-shared');
  const members = [await connect(transport), await connect(transport)];
  for (const { client } of members) await client.subscribeAsync(`$share/g/${topic}`, { qos: 1 });
  for (let i = 0; i < 10; i += 1) await members[0].client.publishAsync(topic, String(i), { qos: 1 });
  await until('all', () => members[0].messages.length + members[1].messages.length >= 10);
  await pause(SILENCE_MS);
  const seen = members.flatMap((member) => member.messages.map((packet) => packet.payload.toString()));
  same('each once', seen.sort(), ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
}

async function properties(transport) {
  const topic = unique('mqttjs/properties');
  const both = await connect(transport);
  await both.client.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 5 } });
  const sent = {
    payloadFormatIndicator: true,
    contentType: 'text/plain',
    responseTopic: 'answers/here',
    correlationData: Buffer.from([0, 1, 2]),
    userProperties: { k: ['1', '2'], 'κ': 'ü' },
  };
  await both.client.publishAsync(topic, 'text', { qos: 1, properties: sent });
  await until('message', () => both.messages.length === 1);
  const got = both.messages[0].properties;
  same('subscription', got.subscriptionIdentifier, 5);
  for (const [name, value] of Object.entries(sent)) same(name, JSON.stringify(got[name]), JSON.stringify(value));
}

/** An alias above the broker's maximum ends the connection with reason 0x94 (MQTT 5 §3.3.2.3.4). */
async function errorTopicAlias(transport) {
  const { client, connack } = await connect(transport);
  const topicAlias = Math.min(((connack.properties || {}).topicAliasMaximum || 0) + 1, 65_535);
  client.topicAliasSend = { put: () => true }; // the library itself would refuse the alias
  const disconnected = once(client, 'disconnect');
  client.publish(unique('mqttjs/alias'), 'x', { properties: { topicAlias } });
  const [packet] = await within('disconnect', disconnected);
  same('reason', packet.reasonCode, 0x94);
}

const checks = [];
for (const transport of ['tcp', 'ws']) {
  for (const version of [4, 5]) {
    for (const qos of [0, 1, 2]) {
      checks.push([`${transport}-v${version}-qos-${qos}`, () => quality(transport, version, qos)]);
    }
    checks.push([`${transport}-v${version}-session`, () => session(transport, version)]);
  }
  for (const [name, check] of Object.entries({ wildcards, retained, will, shared, properties })) {
    checks.push([`${transport}-${name}`, () => check(transport)]);
  }
  checks.push([`${transport}-error-topic-alias`, () => errorTopicAlias(transport)]);
}
run(checks);
