'use strict';
// AMQP 0-9-1 with amqplib: publish with confirms, consume, get, settle, exchanges, returns, errors.
//
// node main.js HOST:PORT   (or KOINE_AMQP=HOST:PORT; usual: 127.0.0.1:5672)
const { once } = require('node:events');
const amqp = require('amqplib');
const { address, pause, refused, run, same, unique, until, within } = require('../checks');

const BROKER = address('KOINE_AMQP', '127.0.0.1:5672');
const BODIES = [Buffer.alloc(0), Buffer.from([0]), Buffer.from('text'), Buffer.alloc(131_072, 5), Buffer.alloc(1_000_000, 6)];

async function connect(password = 'guest') {
  const connection = await amqp.connect(`amqp://guest:${password}@${BROKER}/%2f`);
  connection.on('error', () => {}); // each check looks at what it expects
  return connection;
}

async function open() {
  const channel = await (await connect()).createConfirmChannel();
  channel.on('error', () => {});
  return channel;
}

const PROPERTIES = {
  contentType: 'text/plain', contentEncoding: 'utf-8', deliveryMode: 2, priority: 3, correlationId: 'c', replyTo: 'r',
  messageId: 'm', timestamp: 1_700_000_000, type: 't', appId: 'amqplib',
  headers: { number: 7, text: 'κοινή', flag: true, none: null, fraction: 1.5, list: [1, 'two'], table: { a: { b: 1 } } },
};

async function publishAndConsume() {
  const [channel, queue] = [await open(), unique('amqplib')];
  await channel.assertQueue(queue, { durable: true });
  for (const body of BODIES) channel.sendToQueue(queue, body, PROPERTIES);
  await within('confirms', channel.waitForConfirms());
  const read = [];
  await channel.consume(queue, (message) => {
    if (!message) return; // the queue was deleted
    read.push(message);
    channel.ack(message);
  });
  await until('all', () => read.length === BODIES.length);
  for (const [i, message] of read.entries()) {
    same('body', message.content.equals(BODIES[i]), true);
    for (const [name, value] of Object.entries(PROPERTIES)) same(name, message.properties[name], value);
  }
  same('empty', (await channel.checkQueue(queue)).messageCount, 0);
  await channel.deleteQueue(queue);
  await channel.connection.close();
}

async function settle() {
  const [channel, queue] = [await open(), unique('amqplib-settle')];
  await channel.assertQueue(queue);
  for (const text of ['one', 'two']) channel.sendToQueue(queue, Buffer.from(text));
  await channel.waitForConfirms();
  const first = await channel.get(queue);
  channel.nack(first, false, true);
  const again = await channel.get(queue);
  same('again', [again.content.toString(), again.fields.redelivered], ['one', true]);
  channel.ack(again);
  const second = await channel.get(queue);
  same('second', [second.content.toString(), second.fields.redelivered], ['two', false]);
  channel.reject(second, false);
  same('empty', await channel.get(queue), false);
  await channel.deleteQueue(queue);
}

async function prefetch() {
  const [channel, queue, read] = [await open(), unique('amqplib-prefetch'), []];
  await channel.assertQueue(queue);
  for (let i = 0; i < 5; i += 1) channel.sendToQueue(queue, Buffer.from([i]));
  await channel.waitForConfirms();
  await channel.prefetch(2);
  await channel.consume(queue, (message) => read.push(message));
  await pause(300);
  same('before the ack', read.length, 2);
  channel.ack(read[1], true);
  await until('two more', () => read.length === 4);
  await channel.deleteQueue(queue);
}

async function exchanges() {
  const channel = await open();
  const table = { 'x-match': 'any', colour: 'red', size: 3 };
  const cases = [
    ['direct', 'red', {}, ['red', {}], ['blue', {}]],
    ['topic', '#.b', {}, ['a.a.b', {}], ['b.a', {}]],
    ['fanout', '', {}, ['any', {}], null],
    ['headers', '', table, ['', { size: 3 }], ['', { size: 4 }]],
  ];
  const returns = [];
  channel.on('return', (message) => returns.push(message.fields.replyCode));
  for (const [kind, binding, bindingTable, hit, miss] of cases) {
    const [exchange, queue] = [unique(`amqplib-${kind}`), unique('amqplib-q')];
    await channel.assertExchange(exchange, kind);
    await channel.assertQueue(queue);
    await channel.bindQueue(queue, exchange, binding, bindingTable);
    channel.publish(exchange, hit[0], Buffer.from('hit'), { headers: hit[1], mandatory: true });
    if (miss) channel.publish(exchange, miss[0], Buffer.from('miss'), { headers: miss[1], mandatory: true });
    await channel.waitForConfirms();
    same(`${kind}: returned`, returns.splice(0), miss ? [312] : []);
    const message = await channel.get(queue, { noAck: true });
    same(kind, [message.content.toString(), message.fields.exchange, message.fields.routingKey], ['hit', exchange, hit[0]]);
    await channel.deleteExchange(exchange);
    await channel.deleteQueue(queue);
  }
}

async function cancelNotify() {
  const [channel, queue] = [await open(), unique('amqplib-cancel')];
  await channel.assertQueue(queue);
  const cancelled = new Promise((resolve) => {
    channel.consume(queue, (message) => message === null && resolve());
  });
  await channel.checkQueue(queue);
  await (await open()).deleteQueue(queue);
  await within('cancel', cancelled);
}

/** A request that closes the channel with this reply code. */
async function channelClosedWith(code, request) {
  const connection = await connect();
  const channel = await connection.createChannel();
  const closed = once(channel, 'error').then(([error]) => error);
  await refused(request(channel), (error) => error.code === code || /channel/i.test(error.message));
  same('code', (await within('error event', closed)).code, code);
  await (await connection.createChannel()).close(); // the connection survives
}

async function errorRedeclared() {
  const queue = unique('amqplib-twice');
  await (await open()).assertQueue(queue, { durable: true });
  await channelClosedWith(406, (channel) => channel.assertQueue(queue, { durable: true, autoDelete: true }));
}

async function errorReserved() {
  await channelClosedWith(403, (channel) => channel.assertExchange('amq.mine', 'topic'));
}

async function errorMissing() {
  await channelClosedWith(404, (channel) => channel.checkQueue(unique('nobody')));
}

async function errorLogin() {
  await refused(connect('wrong'), (error) => /403|ACCESS/i.test(error.message));
}

run([
  ['publish-consume-confirm', publishAndConsume],
  ['settle', settle],
  ['prefetch', prefetch],
  ['exchanges', exchanges],
  ['cancel-notify', cancelNotify],
  ['error-missing-queue', errorMissing],
  ['error-redeclared', errorRedeclared],
  ['error-reserved-name', errorReserved],
  ['error-login', errorLogin],
]);
