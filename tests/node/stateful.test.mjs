// Stateful reconnect: connections that outlive their sockets, with stock clients behind a wire that is cut, and by hand.

import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
import test from 'node:test';
import WebSocket from 'ws';
import { HubConnectionBuilder, HubConnectionState, JsonHubProtocol, LogLevel } from '@microsoft/signalr';
import { MessagePackHubProtocol } from '@microsoft/signalr-protocol-msgpack';
import { FrameSocket, TEXT, frame } from './frames.mjs';
import { DEADLINE, Log, newRoom, within } from './helpers.mjs';
import { RS, RawHub, completion, invocation, record, request, upgradeHeaders } from './raw.mjs';

/** A path of the conformance server. */
function at(path) {
  const base = process.env.TEST_HUB_URL;
  if (!base) throw new Error('set TEST_HUB_URL to the conformance server, for example http://127.0.0.1:5000');
  return base + path;
}

const hub = () => at('/testHubReconnect');

/** A wire to the server that can be cut: nobody says goodbye then. */
class Wire {
  #pairs = new Set();
  #changed = new Log();

  static async open(t, target = hub()) {
    const wire = new Wire();
    const to = new URL(target);
    const server = net.createServer((client) => {
      const upstream = net.connect(to.port, to.hostname);
      const pair = [client, upstream];
      wire.#pairs.add(pair);
      client.pipe(upstream).pipe(client);
      for (const socket of pair) {
        socket.on('error', () => {}); // seen as the end that follows
        socket.on('close', () => {
          wire.#pairs.delete(pair);
          for (const other of pair) other.destroy();
        });
      }
      wire.#changed.push('opened');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      wire.cut();
      server.close();
    });
    wire.url = `http://127.0.0.1:${server.address().port}${to.pathname}`;
    return wire;
  }

  /** Cuts everything that is open; what is under way is lost. */
  cut() {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#pairs.clear();
  }

  /** How many sockets there have been. */
  get opened() {
    return this.#changed.items.length;
  }

  /** Waits until there have been so many sockets. */
  untilOpened(count) {
    return this.#changed.first(count, `${count} sockets`, 2 * DEADLINE);
  }
}

/** A stock client with stateful reconnect, without any other reconnect, and what it is told. */
async function stock(t, url, { protocol = new JsonHubProtocol() } = {}) {
  const builder = new HubConnectionBuilder().withUrl(url).withStatefulReconnect().withHubProtocol(protocol);
  const connection = builder.configureLogging(LogLevel.None).build();
  const client = { connection, messages: new Log(), floods: new Log(), disconnected: new Log(), closed: new Log() };
  connection.on('Message', (text) => client.messages.push(text));
  connection.on('Flood', (number, text) => client.floods.push([number, text.length]));
  connection.on('Disconnected', (id) => client.disconnected.push(id));
  connection.onclose((error) => client.closed.push({ error }));
  client.invoke = (method, ...values) => within(connection.invoke(method, ...values), `the completion of ${method}`, 2 * DEADLINE);
  t.after(() => within(connection.stop(), 'stopping a connection'));
  await within(connection.start(), 'starting a connection');
  return client;
}

/** Negotiates a connection and gives its id and the query of its sockets. */
async function negotiate(url = hub(), query = '&useStatefulReconnect=true') {
  const answer = await request('POST', `/negotiate?negotiateVersion=1${query}`, { hub: url });
  assert.equal(answer.status, 200, answer.body);
  const body = JSON.parse(answer.body);
  return { ...body, query: `?id=${body.connectionToken}` };
}

/** A socket by hand of a new connection that may have more of them. */
async function first(t, version = 2) {
  const negotiated = await negotiate();
  const socket = await RawHub.open(t, { url: hub(), query: negotiated.query, handshake: false });
  socket.send(record({ protocol: 'json', version }));
  assert.deepEqual(await socket.record('the handshake response'), {});
  return { negotiated, socket };
}

/** Another socket of the same connection. */
const another = (t, { query }) => RawHub.open(t, { url: hub(), query, handshake: false });

/** The status of the answer to a request for another socket. */
async function statusOfAnother({ query }, url = hub()) {
  const answer = await request('GET', query, { hub: url, headers: upgradeHeaders() });
  answer.socket?.destroy();
  return answer.status;
}

const sequence = (sequenceId) => ({ type: 9, sequenceId });
const ack = (sequenceId) => ({ type: 8, sequenceId });
const message = (text) => ({ type: 1, target: 'Message', arguments: [text] });

/** Waits until the server says that so many messages have come; it says so once a second, so it may have said less before. */
async function acknowledged(socket, count) {
  for (;;) {
    const one = await socket.record(`the Ack of ${count}`);
    assert.ok(one.type === 8 && one.sequenceId <= count, JSON.stringify(one));
    if (one.sequenceId === count) return;
  }
}

/** The next record that is neither a ping nor an Ack, which come when they like. */
async function next(socket, what) {
  for (;;) {
    const one = await socket.record(what, 2 * DEADLINE);
    if (one.type !== 6 && one.type !== 8) return one;
  }
}

/** The connection works, and nothing else has arrived before this answer. */
async function lives(socket) {
  socket.send(invocation('alive?', 'Echo', 'yes'));
  assert.deepEqual(await next(socket, 'the answer to Echo'), completion('alive?', 'yes'));
}

for (const protocol of [new JsonHubProtocol(), new MessagePackHubProtocol()]) {
  test(`a client whose socket is cut again and again misses nothing, in ${protocol.name}`, async (t) => {
    const group = newRoom();
    const wire = await Wire.open(t);
    const ann = await stock(t, wire.url, { protocol });
    const bob = await stock(t, hub());
    await bob.invoke('WatchDisconnects');
    await ann.invoke('JoinGroup', group);
    const { connectionId } = ann.connection;
    assert.equal(await ann.invoke('GetCallerConnectionId'), connectionId);

    // Both ways at once, and a cut whenever so many have arrived; more are sent while there is no socket.
    const [rounds, each] = [5, 60];
    const answers = [];
    const answered = [];
    for (let round = 0; round < rounds; round++) {
      const before = wire.opened;
      for (let i = 0; i < each; i++) {
        const number = round * each + i;
        answers.push(ann.connection.invoke('Echo', `${number}`).then((text) => answered.push(Number(text))));
        await bob.invoke('CallGroup', group, `${number}`);
        if (i === each / 2) wire.cut();
      }
      await wire.untilOpened(before + 1);
    }
    const numbers = Array.from({ length: rounds * each }, (_, number) => number);
    await within(Promise.all(answers), 'all answers', 3 * DEADLINE);
    assert.deepEqual(answered, numbers);
    const texts = await ann.messages.first(numbers.length, 'all messages', 3 * DEADLINE);
    assert.deepEqual(texts.map(Number), numbers);

    // Nothing comes behind, and it is still the same connection.
    await bob.invoke('CallGroup', group, 'the last');
    assert.deepEqual((await ann.messages.first(numbers.length + 1)).slice(numbers.length), ['the last']);
    assert.equal(await ann.invoke('GetCallerConnectionId'), connectionId);
    assert.equal(ann.connection.state, HubConnectionState.Connected);
    assert.deepEqual(ann.closed.items, []);
    assert.ok(!bob.disconnected.items.includes(connectionId));
    await ann.connection.stop();
    await bob.disconnected.until((ids) => ids.includes(connectionId), 'the end of the client');
  });
}

test('a stream goes on over a cut', async (t) => {
  const wire = await Wire.open(t);
  const client = await stock(t, wire.url);
  const items = new Log();
  client.connection.stream('Counter', 100, 10).subscribe({
    next: (item) => items.push(item),
    error: (error) => items.push({ error }),
    complete: () => items.push('complete'),
  });
  for (const count of [10, 40, 70]) {
    await items.first(count);
    const before = wire.opened;
    wire.cut();
    await wire.untilOpened(before + 1);
  }
  const seen = await items.first(101, 'the whole stream', 2 * DEADLINE);
  assert.deepEqual(seen, [...Array.from({ length: 100 }, (_, number) => number), 'complete']);
});

test('a flood larger than the buffer arrives whole, over a cut, too', async (t) => {
  const wire = await Wire.open(t);
  const client = await stock(t, wire.url);
  // Three times what the server keeps; the stock client acknowledges once a second.
  const flooded = client.connection.invoke('FloodCaller', 300, 1000);
  await client.floods.first(50, 'the beginning of the flood');
  const before = wire.opened;
  wire.cut();
  await wire.untilOpened(before + 1);
  await within(flooded, 'the end of the flood', 3 * DEADLINE);
  assert.deepEqual(client.floods.items, Array.from({ length: 300 }, (_, number) => [number, 1000]));
  assert.deepEqual(client.closed.items, []);
});

test('what is not acknowledged comes again, behind the number of the first of it', async (t) => {
  const { negotiated, socket } = await first(t);
  for (const text of ['one', 'two', 'three']) socket.send(invocation(undefined, 'CallCaller', text));
  for (const text of ['one', 'two', 'three']) assert.deepEqual(await next(socket), message(text));
  socket.send(record(ack(1)), invocation('4', 'Echo', 'taken'));
  assert.deepEqual(await next(socket), completion('4', 'taken'));
  socket.socket.terminate();

  const second = await another(t, negotiated);
  assert.deepEqual(await second.record('the first record'), sequence(2));
  // Said in the middle of the replay.
  second.send(record(ack(4)), record(sequence(5)), invocation('5', 'Echo', 'new'));
  assert.deepEqual(await next(second), message('two'));
  assert.deepEqual(await next(second), message('three'));
  assert.deepEqual(await next(second), completion('4', 'taken'));
  assert.deepEqual(await next(second), completion('5', 'new'));
  second.send(record(ack(5)), invocation('6', 'Echo', 'taken'));
  assert.deepEqual(await next(second), completion('6', 'taken'));
  second.socket.terminate();

  const third = await another(t, negotiated);
  assert.deepEqual(await third.record('the first record'), sequence(6));
  assert.deepEqual(await next(third), completion('6', 'taken'));
  await lives(third);
});

test('what the client sends again is done once, and half a message not at all', async (t) => {
  const { negotiated, socket } = await first(t);
  socket.send(invocation('1', 'CallCaller', 'one'));
  assert.deepEqual(await next(socket), message('one'));
  assert.deepEqual(await next(socket), completion('1', null));
  const two = invocation('2', 'CallCaller', 'two');
  socket.send(two.slice(0, 20));
  socket.socket.terminate();

  const answer = await request('GET', negotiated.query, { hub: hub(), headers: upgradeHeaders() });
  assert.equal(answer.status, 101);
  const frames = new FrameSocket(answer.socket, answer.head);
  frames.send(frame(TEXT, record(sequence(1)) + invocation('1', 'CallCaller', 'one')));
  // Half a frame.
  frames.send(frame(TEXT, two).subarray(0, 20));
  await frames.expect({ text: JSON.stringify(sequence(1)) + RS });
  frames.socket.destroy();

  const third = await another(t, negotiated);
  assert.deepEqual(await third.record('the first record'), sequence(1));
  third.send(record(sequence(1)), invocation('1', 'CallCaller', 'one'), two);
  assert.deepEqual(await next(third), message('one'));
  assert.deepEqual(await next(third), completion('1', null));
  assert.deepEqual(await next(third), message('two'));
  assert.deepEqual(await next(third), completion('2', null));
  await acknowledged(third, 2);
  await lives(third);
});

test('what has come is acknowledged, and only when something new has', async (t) => {
  const { socket } = await first(t);
  for (let i = 1; i <= 3; i++) socket.send(invocation(undefined, 'Echo', `${i}`));
  await acknowledged(socket, 3);
  socket.send(record({ type: 6 }), invocation('4', 'Echo', 'x'));
  assert.deepEqual(await next(socket), completion('4', 'x'));
  assert.deepEqual(await socket.record('an Ack'), ack(4));
});

for (const sequenceId of [0, -1, 2]) {
  test(`a Sequence of ${sequenceId} before the first message ends the connection`, async (t) => {
    const { negotiated, socket } = await first(t);
    socket.send(record(sequence(sequenceId)));
    await socket.connectionError();
    assert.ok([204, 404].includes(await statusOfAnother(negotiated)));
  });
}

test('Acks of what was never sent are harmless', async (t) => {
  const { socket } = await first(t);
  socket.send(...[-1, 0, 1000, Number.MAX_SAFE_INTEGER].map((id) => record(ack(id))));
  await lives(socket);
});

test('a second socket takes the place of the first', async (t) => {
  const { negotiated, socket } = await first(t);
  await lives(socket);
  const second = await another(t, negotiated);
  assert.deepEqual(await second.record('the first record'), sequence(1));
  assert.deepEqual(await next(second), completion('alive?', 'yes'));
  await lives(second);
  await socket.close(1006);
  // Again, and several at once: one stays, and the others are told.
  const more = await Promise.all([another(t, negotiated), another(t, negotiated), another(t, negotiated)]);
  second.socket.terminate();
  const ends = await Promise.all(more.map((one) => one.next('a Sequence or the end')));
  assert.ok(ends.every((end) => end.record?.type === 9 || end.close === 1006), JSON.stringify(ends));
  const stayed = more.filter(({ socket: { readyState } }, i) => ends[i].record && readyState === WebSocket.OPEN);
  const answered = stayed.map((one) => {
    one.send(invocation('who?', 'Echo', 'me'));
    return one.next('an answer or the end');
  });
  assert.ok((await Promise.all(answered)).some((end) => 'record' in end));
});

test('another user does not get the connection', async (t) => {
  const negotiated = await negotiate();
  const of = (user) => ({ query: `${negotiated.query}${user}` });
  const socket = await RawHub.open(t, { url: hub(), query: of('&user=ann').query, handshake: false });
  socket.send(record({ protocol: 'json', version: 2 }));
  assert.deepEqual(await socket.record('the handshake response'), {});
  for (const user of ['&user=bob', '&user=Ann', '&user=', '']) assert.equal(await statusOfAnother(of(user)), 403, user);
  await lives(socket);
  const second = await another(t, of('&user=ann'));
  assert.deepEqual(await second.record('the first record'), sequence(1));
});

test('a connection without a socket is over after fifteen seconds', { timeout: 60_000 }, async (t) => {
  const watcher = await stock(t, hub());
  await watcher.invoke('WatchDisconnects');
  const { negotiated, socket } = await first(t);
  await lives(socket);
  const began = Date.now();
  socket.socket.terminate();
  await watcher.disconnected.until((ids) => ids.includes(negotiated.connectionId), 'the end of the connection', 20_000);
  const took = Date.now() - began;
  assert.ok(took > 14_500 && took < 18_000, `${took} ms`);
  assert.equal(await statusOfAnother(negotiated), 404);
});

const ends = {
  'the Close message of a client': (socket) => socket.send(record({ type: 7 })),
  'the close frame of a client': (socket) => socket.socket.close(1001),
  'Abort()': (socket) => socket.send(invocation(undefined, 'Abort')),
};
for (const [name, end] of Object.entries(ends)) {
  test(`after ${name} there is no other socket`, async (t) => {
    const watcher = await stock(t, hub());
    await watcher.invoke('WatchDisconnects');
    const { negotiated, socket } = await first(t);
    end(socket);
    // Long before the fifteen seconds are over.
    await watcher.disconnected.until((ids) => ids.includes(negotiated.connectionId), 'the end of the connection', DEADLINE);
    assert.ok([204, 404].includes(await statusOfAnother(negotiated)));
  });
}

test('a client that shakes hands in version 1 has one socket', async (t) => {
  const { negotiated, socket } = await first(t, 1);
  socket.send(record(ack(7)), record(sequence(-7)));
  await lives(socket);
  assert.equal(await statusOfAnother(negotiated), 204);
  await lives(socket);
  socket.socket.terminate();
  // Its end is noticed when it is.
  const until = Date.now() + DEADLINE;
  let status;
  do status = await statusOfAnother(negotiated);
  while (status === 204 && Date.now() < until);
  assert.equal(status, 404);
});

test('a connection of sockets has no other requests', async (t) => {
  const { negotiated, socket } = await first(t);
  assert.equal((await request('POST', negotiated.query, { hub: hub(), body: 'x' })).status, 405);
  assert.equal((await request('GET', negotiated.query, { hub: hub() })).status, 400);
  assert.equal((await request('DELETE', negotiated.query, { hub: hub() })).status, 400);
  await lives(socket);
});

test('stateful reconnect is negotiated by the word true', async () => {
  for (const word of ['true', 'True', 'TRUE', 'tRuE']) {
    assert.equal((await negotiate(hub(), `&useStatefulReconnect=${word}`)).useStatefulReconnect, true, word);
    assert.equal((await negotiate(hub(), `&USEstatefulRECONNECT=${word}`)).useStatefulReconnect, true, word);
  }
  for (const query of ['', ...['1', 'yes', 'false', '', 'truee'].map((word) => `&useStatefulReconnect=${word}`)]) {
    assert.ok(!('useStatefulReconnect' in (await negotiate(hub(), query))), query);
  }
});

test('a connection that did not negotiate it has one socket, whatever its version', async (t) => {
  const { query } = await negotiate(hub(), '');
  const socket = await RawHub.open(t, { url: hub(), query, handshake: false });
  socket.send(record({ protocol: 'json', version: 2 }));
  assert.deepEqual(await socket.record('the handshake response'), {});
  assert.equal(await statusOfAnother({ query }), 409);
  await lives(socket);
});

test('a server that does not allow it does not offer it, and the stock client goes without', async (t) => {
  const url = at('/testHub');
  assert.ok(!('useStatefulReconnect' in (await negotiate(url))));
  const wire = await Wire.open(t, url);
  const client = await stock(t, wire.url);
  assert.equal(await client.invoke('Echo', 'x'), 'x');
  wire.cut();
  await client.closed.first(1, 'onclose');
});
