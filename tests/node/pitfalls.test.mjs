// What implementations of SignalR commonly get wrong: one small test for each row of the tables in the reference, named after its row.
//
// The rows about stateful reconnect are in stateful.test.mjs, those about Redis in the tests of the backplane.

import assert from 'node:assert/strict';

import { describe, test } from 'node:test';
import WebSocket from 'ws';
import { HttpTransportType } from '@microsoft/signalr';
import { DEADLINE, Log, differsOn31, within } from './helpers.mjs';
import { CONNECTION_ERROR, HANDSHAKE, RS, RawHub, completion, failure, invocation, record, request, upgrade } from './raw.mjs';
import { TestClient, testHub, unique } from './testhub.mjs';
import { EVENTS, Events, GONE, NO_DELETE, Poll, Polling, SlowPost, check, newId } from './transports.mjs';

const beyond31 = differsOn31('the method is newer than 3.1');
const noMessagePack = differsOn31('the peer has no MessagePack');
const hub = testHub();
/** The hub for tests that call everybody. */
const loud = testHub('testHubDetailed');
const open = (t, more) => RawHub.open(t, { url: hub, ...more });
const { WebSockets, ServerSentEvents, LongPolling } = HttpTransportType;

/** A raw WebSocket that speaks MessagePack: `send(hex)` adds the length, `next()` gives what comes as hex, without it. */
async function packed(t) {
  const socket = new WebSocket(hub.replace(/^http/, 'ws'));
  t.after(() => socket.terminate());
  const [messages, closed] = [new Log(), new Log()];
  let taken = 0;
  socket.on('close', (code) => closed.push(code));
  const read = (data, binary) => {
    assert.ok(binary);
    for (let rest = data; rest.length > 0; ) {
      let [length, at, shift] = [0, 0, 0];
      do length |= (rest[at] & 0x7f) << (7 * shift++);
      while (rest[at++] & 0x80);
      assert.ok(rest.length >= at + length, 'a message is split over two');
      messages.push(rest.subarray(at, at + length).toString('hex'));
      rest = rest.subarray(at + length);
    }
  };
  await within(new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject)), 'opening a WebSocket');
  socket.send('{"protocol":"messagepack","version":1}\x1e');
  const first = await within(new Promise((resolve) => socket.once('message', resolve)), 'the handshake response');
  assert.equal(first.toString(), `{}${RS}`);
  socket.on('message', read);
  const next = () => {
    const at = taken++;
    return messages.until((items) => items[at], 'a message');
  };
  const send = (hex) => {
    const data = Buffer.from(hex, 'hex');
    assert.ok(data.length < 128);
    socket.send(Buffer.concat([Buffer.from([data.length]), data]));
  };
  return { send, next, closed };
}

/** MessagePack of a short text. */
const str = (text) => (0xa0 + Buffer.byteLength(text)).toString(16) + Buffer.from(text).toString('hex');
const echo = (id) => `950180${str(id)}${str('Echo')}91${str('x')}`;
const echoed = (id) => `950380${str(id)}03${str('x')}`;

describe('the hub protocol', () => {
  test('unknown message type must be skipped, not block the stream', { skip: differsOn31('it stops reading there') }, async (t) => {
    const raw = await open(t);
    for (const type of [0, 10, 42, -1]) {
      raw.send(record({ type, invocationId: '1', x: { y: [] } }));
      await raw.lives();
    }
    if (noMessagePack) return;
    const pack = await packed(t);
    for (const hex of ['9100', '91cc2a', '9363c0a178']) pack.send(hex);
    pack.send(echo('1'));
    assert.equal(await pack.next(), echoed('1'));
  });

  test('null is not "absent" for string fields; emit the field or leave it out', async (t) => {
    for (const bad of [{ invocationId: null }, { target: null }, { headers: null }, { streamIds: null }, { arguments: null }]) {
      const raw = await open(t);
      raw.send(record({ type: 1, invocationId: '1', target: 'Echo', arguments: ['x'], ...bad }));
      await raw.connectionError();
    }
    const raw = await open(t);
    raw.send(invocation('1', 'CallBackNoArgs') + invocation('2', 'Nothing') + record({ type: 4, invocationId: '3', target: 'Stream', arguments: [] }));
    for (const seen of await raw.records(7)) {
      for (const [name, value] of Object.entries(seen)) assert.ok(value !== null || name === 'result', `${name} is null`);
    }
  });

  test('void method: completion with result:null / kind 3 nil, but servers must also accept no result', async (t) => {
    const raw = await open(t);
    raw.send(invocation('1', 'VoidMethod'));
    assert.deepEqual(await raw.record(), { type: 3, invocationId: '1', result: null });
    raw.send(record({ type: 3, invocationId: 'nobody' }));
    await raw.lives();
    if (noMessagePack) return;
    const pack = await packed(t);
    pack.send(`950180a131${str('VoidMethod')}90`);
    assert.equal(await pack.next(), '950380a13103c0');
    pack.send(`940380${str('nobody')}02`);
    pack.send(echo('2'));
    assert.equal(await pack.next(), echoed('2'));
  });

  test('a client result without a value is an answer, too', { skip: beyond31 }, async (t) => {
    const raw = await open(t);
    raw.send(invocation('1', 'InvokeCaller', 'Ask', 5));
    const { invocationId, ...asked } = await raw.record();
    assert.deepEqual(asked, { type: 1, target: 'Ask', arguments: [5] });
    raw.send(record({ type: 3, invocationId }));
    // .NET makes an error of it; taking it for null is as good.
    const { error, ...rest } = await raw.record();
    assert.deepEqual(rest, error ? { type: 3, invocationId: '1' } : completion('1', null));
    await raw.lives();
  });

  test('messages may not be split across transport messages towards JS', async (t) => {
    const count = 30_000;
    const raw = await open(t);
    raw.send(invocation('1', 'BigString', 1_000_000));
    assert.equal((await raw.record()).result.length, 1_000_000); // RawHub refuses parts of records
    const events = await Events.open(t, { hub });
    const polling = await Polling.open(t, { hub });
    for (const connection of [events, polling]) {
      await connection.send(invocation('1', 'BigString', count) + invocation('2', 'BigString', 1_000_000));
      assert.deepEqual((await connection.records(2)).map(({ result }) => result.length), [count, 1_000_000]);
    }
    if (noMessagePack) return;
    const pack = await packed(t);
    pack.send(`950180a131${str('BigString')}91ce000f4240`);
    assert.equal((await pack.next()).length, 2 * (1_000_000 + 5 + 6));
  });

  test('non-blocking invocations get no answer even on failure', async (t) => {
    const raw = await open(t);
    const call = (target, ...values) => record({ type: 1, target, arguments: values });
    raw.send(call('Echo', 'x'), call('Nothing'), call('Echo'), call('Echo', 5), call('ThrowHubException', 'x'), call('Stream'), call('StreamingConcat'));
    raw.send(record({ type: 1, invocationId: '', target: 'Nothing', arguments: [] }));
    await raw.lives();
  });

  test('handshake: version 1 must stay accepted; protocol case-insensitive; RS required', async (t) => {
    for (const protocol of ['json', 'JSON', 'Json']) {
      const raw = await open(t, { handshake: false });
      raw.send(`{"protocol":"${protocol}","version":1}`);
      raw.socket.ping('no answer before the separator');
      assert.deepEqual(await raw.next(), { pong: 'no answer before the separator' });
      raw.send(RS);
      assert.deepEqual(await raw.record(), {});
      await raw.lives();
    }
  });

  test('data before the handshake response breaks clients', async (t) => {
    // Somebody calls everybody all the time while others arrive: what they get first is the answer to their handshake.
    const caller = await open(t, { url: loud });
    for (let round = 0; round < 20; round++) {
      const raw = await open(t, { url: loud, handshake: false });
      caller.send(invocation('1', 'CallAll', 'early'));
      raw.send(HANDSHAKE);
      caller.send(invocation('2', 'CallAll', 'later'));
      assert.deepEqual(await raw.record('the handshake response'), {});
      raw.socket.terminate();
    }
  });

  test('duplicate upload stream ids must be rejected', { skip: differsOn31('3.1 to 10 let the later one replace the earlier') }, async (t) => {
    const raw = await open(t);
    const upload = (id) => record({ type: 1, invocationId: id, target: 'StreamingConcat', arguments: [], streamIds: ['u'] });
    raw.send(upload('1') + upload('2'));
    const { error, ...rest } = await raw.record();
    assert.deepEqual(rest, { type: 3, invocationId: '2' });
    assert.match(error, /\S/);
    raw.send(record({ type: 2, invocationId: 'u', item: 'a' }) + record({ type: 3, invocationId: 'u' }));
    assert.deepEqual(await raw.record(), completion('1', 'a'));
  });

  test('MessagePack object keys are case-sensitive PascalCase towards .NET; JSON is camelCase', async (t) => {
    const json = await TestClient.start(t, { url: hub });
    assert.deepEqual(Object.keys(await json.invoke('SendComplexObject')), ['string', 'intArray', 'byteArray', 'guid', 'dateTime']);
    if (noMessagePack) return;
    const pack = await TestClient.start(t, { url: hub, packed: true });
    assert.deepEqual(Object.keys(await pack.invoke('SendComplexObject')), ['String', 'IntArray', 'ByteArray', 'Guid', 'DateTime']);
  });

  test('timestamp extension handling: what MessagePack calls a moment is one, in every width', { skip: noMessagePack }, async (t) => {
    const pack = await packed(t);
    for (const moment of ['d6ff6553f100', 'd7ff1d5353006553f100', 'c70cff00000000ffffffffffffffff']) {
      pack.send(`950180a131${str('EchoDate')}91${moment}`);
      assert.equal(await pack.next(), `950380a13103${moment}`);
    }
  });

  test('MessagePack invocation may have 5 or 6 items; close 2 or 3', { skip: noMessagePack }, async (t) => {
    const pack = await packed(t);
    pack.send(echo('1'));
    assert.equal(await pack.next(), echoed('1'));
    pack.send(`960180a132${str('Echo')}91${str('x')}90`);
    assert.equal(await pack.next(), echoed('2'));
    for (const close of ['9207c0', '9307c0c2', `9207${str('bye')}`]) {
      const leaving = await packed(t);
      leaving.send(close);
      assert.deepEqual(await leaving.closed.first(1, 'the end'), [1000]);
    }
  });
});

describe('transports', () => {
  test('first LP poll must return immediately with 200 and empty body', async () => {
    const id = await newId(hub);
    check(await new Poll(id, { hub }).result(), [200, '']);
    await request('DELETE', id, { hub });
  });

  test('poll timeout is 200 + empty body; 204 means "connection over"', async (t) => {
    // The 90 seconds of the timeout are waited for in longpolling.test.mjs; here is the other half.
    const polling = await Polling.open(t, { hub });
    await polling.send(`bad${RS}`);
    assert.deepEqual(await polling.record(), CONNECTION_ERROR);
    check(await polling.poll().result(), [204, '']);
    check(await polling.poll().result(), GONE);
  });

  test('old poll/new poll race marks a live connection inactive', async (t) => {
    const polling = await Polling.open(t, { hub });
    const answers = new Log();
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 3; i++) polling.poll().result(6 * DEADLINE).then((answer) => answers.push(answer), () => {});
      await polling.send(invocation(`call ${round}`, 'Echo', 'x'));
      // One of these polls has it, or one of those before; the others were told that they are too old.
      const answer = (items) => items.some(({ body }) => body.includes(`"call ${round}"`));
      await answers.until((items) => answer(items) || null, `the answer to call ${round}`);
    }
    for (const { status, body } of answers.items) assert.ok([200, 204, 409].includes(status), `a poll was answered ${status}: ${body}`);
  });

  test('version-1 clients must be found by token, never by connectionId', async () => {
    const answer = await request('POST', '/negotiate?negotiateVersion=1', { hub });
    const { connectionId, connectionToken } = JSON.parse(answer.body);
    assert.notEqual(connectionId, connectionToken);
    for (const method of ['GET', 'POST', 'DELETE']) check(await request(method, `?id=${connectionId}`, { hub }), GONE);
    assert.equal((await upgrade(`?id=${connectionId}`, {}, { hub })).status, 404);
    assert.equal((await upgrade(`?id=${encodeURIComponent(connectionToken)}`, {}, { hub })).status, 101);
  });

  test('negotiate failures are HTTP 200 with error', async () => {
    for (const version of ['-1', 'abc']) {
      const answer = await request('POST', `/negotiate?negotiateVersion=${version}`, { hub });
      assert.equal(answer.status, 200);
      assert.equal(answer.headers['content-type'], 'application/json');
      assert.deepEqual(Object.keys(JSON.parse(answer.body)), ['error']);
    }
  });

  test('connection state is per process: 404 after negotiate on another node', async () => {
    // Nobody but the server that gave an id, or one of its own kind, takes it.
    for (const id of ['AAAAAAAAAAAAAAAAAAAAAA', 'x'.repeat(55)]) {
      check(await request('GET', `?id=${id}`, { hub }), GONE);
      check(await request('GET', `?id=${id}`, { hub, headers: EVENTS }), GONE);
      assert.equal((await upgrade(`?id=${id}`, {}, { hub })).status, 404);
    }
  });

  test('Access-Control-Allow-Origin: * does not work with the JS defaults', { skip: differsOn31('that server allows no other origins') }, async () => {
    const origin = 'https://pages.example';
    const answer = await request('POST', '/negotiate?negotiateVersion=1', { hub, headers: { Origin: origin } });
    assert.equal(answer.headers['access-control-allow-origin'], origin);
    assert.equal(answer.headers['access-control-allow-credentials'], 'true');
    const asked = { Origin: origin, 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'x-requested-with,x-signalr-user-agent' };
    const preflight = await request('OPTIONS', '/negotiate?negotiateVersion=1', { hub, headers: asked });
    assert.ok([200, 204].includes(preflight.status));
    assert.equal(preflight.headers['access-control-allow-origin'], origin);
    assert.equal(preflight.headers['access-control-allow-credentials'], 'true');
    const allowed = preflight.headers['access-control-allow-headers'].toLowerCase();
    for (const name of ['x-requested-with', 'x-signalr-user-agent']) assert.ok(allowed.includes(name), `${name} is not allowed: ${allowed}`);
  });

  test('SSE must flush headers and the : comment at once and must not be compressed/buffered', async (t) => {
    const events = await Events.open(t, { hub, handshake: false, headers: { ...EVENTS, 'Accept-Encoding': 'gzip, deflate, br' } });
    assert.equal(events.text, ':\r\n');
    assert.equal(events.response.headers['content-encoding'], 'identity');
    assert.match(events.response.headers['cache-control'], /no-cache/);
    await events.handshake();
  });

  test('WebSocket server-side close must end the read loop promptly', async (t) => {
    const [watcher, raw] = [await open(t), await open(t)];
    watcher.send(invocation('w', 'WatchDisconnects'));
    await watcher.record();
    raw.send(invocation('id', 'GetCallerConnectionId'));
    const { result: id } = await raw.record();
    // This client keeps on sending and never answers the server's close frame.
    raw.socket.pause();
    raw.socket.send(record({ type: 1, target: 'Abort', arguments: [] }));
    let told;
    do {
      raw.socket.send(record({ type: 6 }), () => {});
      told = await watcher.record('the end of the connection', 4000);
    } while (told.target !== 'Disconnected' || told.arguments[0] !== id);
  });

  test('message larger than the pipe buffer must not dead-lock the reader', async (t) => {
    const raw = await open(t);
    raw.send(invocation('1', 'Echo', 'x'.repeat(1_000_000)));
    await raw.connectionError();
    const polling = await Polling.open(t, { hub });
    const post = new SlowPost(polling.id, { hub });
    t.after(() => post.drop()); // 3.1 never answers it
    post.sent.end('x'.repeat(200_000));
    assert.deepEqual(await polling.record(), CONNECTION_ERROR);
    assert.ok([204, 404].includes((await polling.poll().result()).status));
  });

  test('clients may send DELETE for a connection that is already gone, or during a failed start', async (t) => {
    const id = await newId(hub);
    check(await request('DELETE', id, { hub }), NO_DELETE);
    const polling = await Polling.open(t, { hub });
    for (const [status, body] of [[202, ''], GONE, GONE]) check(await request('DELETE', polling.id, { hub }), [status, body]);
    const client = TestClient.create(t, { url: hub, transport: LongPolling });
    const starting = client.connection.start().catch(() => {});
    await client.stop();
    await within(starting, 'the start that was given up');
  });

  test('skipNegotiation connections have no client-side connectionId', async (t) => {
    const client = await TestClient.start(t, { url: hub, transport: WebSockets, http: { skipNegotiation: true } });
    assert.ok(!client.id);
    assert.equal(await client.invoke('Echo', 'x'), 'x');
  });
});

describe('the server', () => {
  test('binding runs before lookup: unknown method yields the "Failed to invoke … Method does not exist." text', async (t) => {
    const raw = await open(t);
    raw.send(invocation('1', 'nOTHING', 1));
    assert.deepEqual(await raw.record(), failure('1', "Failed to invoke 'nOTHING' due to an error on the server. HubException: Method does not exist."));
  });

  test('HubException text is appended to, not a replacement of, the generic sentence', async (t) => {
    const raw = await open(t);
    raw.send(invocation('1', 'ThrowHubException', 'my text'));
    assert.deepEqual(await raw.record(), failure('1', "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: my text"));
  });

  test('one blocked invocation must not stop pings, stream items or client-result completions', { skip: differsOn31('before 7 it did') }, async (t) => {
    const raw = await open(t);
    const item = (id, value) => record({ type: 2, invocationId: id, item: value });
    raw.send(record({ type: 1, invocationId: 'up', target: 'StreamingConcat', arguments: [], streamIds: ['u'] }));
    raw.send(invocation('asks', 'InvokeCaller', 'Ask', 1));
    const { invocationId } = await raw.record('the question');
    raw.send(invocation('slow', 'DelayedEcho', 'slow', 60_000), invocation('waits', 'Echo', 'x'));
    raw.send(record({ type: 6 }), item('u', 'a'), record({ type: 3, invocationId: 'u' }));
    assert.deepEqual(await raw.record(), completion('up', 'a'));
    raw.send(record({ type: 3, invocationId, result: 'answer' }));
    assert.deepEqual(await raw.record(), completion('asks', 'answer'));
  });

  test('streaming + client results must not release the slot twice', { skip: beyond31 }, async (t) => {
    // A call that asks its client gives its turn back once. If it did so twice, two calls would run at once from then on.
    const raw = await open(t);
    for (let round = 0; round < 3; round++) {
      raw.send(record({ type: 4, invocationId: 's', target: 'Counter', arguments: [2, 0] }) + invocation('asks', 'InvokeCaller', 'Ask', round));
      const seen = await raw.records(4);
      const { invocationId } = seen.find(({ type }) => type === 1);
      raw.send(record({ type: 3, invocationId, result: round }));
      assert.deepEqual(await raw.record(), completion('asks', round));
    }
    raw.send(invocation('slow', 'DelayedEcho', 'slow', 300) + invocation('fast', 'Echo', 'fast'));
    assert.deepEqual(await raw.records(2), [completion('slow', 'slow'), completion('fast', 'fast')]);
  });

  test('client results only for single clients; ids of results must be bound to the connection', { skip: beyond31 }, async (t) => {
    const [asking, asked, thief] = [await open(t), await open(t), await open(t)];
    asked.send(invocation('id', 'GetCallerConnectionId'));
    const { result: id } = await asked.record();
    asking.send(invocation('1', 'InvokeClient', id, 'Ask', 'secret?'));
    const { invocationId } = await asked.record();
    assert.ok(invocationId);
    thief.send(record({ type: 3, invocationId, result: 'forged' }));
    // Whether it is ended for that or ignored, nobody believes it.
    thief.send(invocation('2', 'Echo', 'x'));
    const answer = await thief.record();
    assert.ok(answer.type === 7 || answer.invocationId === '2');
    asked.send(record({ type: 3, invocationId, result: 'true' }));
    assert.deepEqual(await asking.record(), completion('1', 'true'));
  });

  test('groups vanish on reconnect; clients must rejoin', async (t) => {
    const group = unique('group');
    const client = await TestClient.start(t, { url: hub });
    const heard = client.calls('Message');
    await client.invoke('JoinGroup', group);
    await client.stop();
    await client.start();
    const [lost, back] = [unique('lost'), unique('back')];
    await client.invoke('CallGroup', group, lost);
    await client.invoke('JoinGroup', group);
    await client.invoke('CallGroup', group, back);
    assert.deepEqual(heard.items.filter(([text]) => [lost, back].includes(text)), [[back]]);
  });

  test('size errors hit clients as a connection close, not a failed invoke', async (t) => {
    const raw = await open(t);
    raw.send(invocation('1', 'Echo', 'x'.repeat(40_000)));
    await raw.connectionError();
    const client = await TestClient.start(t, { url: hub });
    await assert.rejects(client.invoke('Echo', 'x'.repeat(40_000)), { message: 'Server returned an error on close: Connection closed with an error.' });
    const [{ error }] = await client.closed.first(1, 'onclose');
    assert.equal(error?.message, 'Server returned an error on close: Connection closed with an error.');
  });

  test('ordering across sends is not promised by the product, yet users rely on per-connection order', async (t) => {
    const clients = [];
    for (const transport of [WebSockets, ServerSentEvents, LongPolling]) {
      const client = await TestClient.start(t, { url: loud, transport });
      client.heard = client.calls('Message');
      clients.push(client);
    }
    const own = unique('own');
    const texts = Array.from({ length: 200 }, (_, i) => `${own} ${i}`);
    const ids = clients.map(({ id }) => id);
    const sends = texts.map((text, i) => (i % 2 ? clients[0].send('CallClients', ids, text) : clients[0].send('CallAll', text)));
    await Promise.all(sends);
    for (const { heard } of clients) {
      const mine = (items) => items.map(([text]) => text).filter((text) => text.startsWith(own));
      assert.deepEqual(await heard.until((items) => mine(items).length >= 200 && mine(items), 'all of them'), texts);
    }
  });

  test('re-using an active stream invocation id must not disturb the first stream', { skip: differsOn31('up to 8 nobody looks, and later ones lose its cancellation') }, async (t) => {
    const raw = await open(t);
    const stream = (target) => record({ type: 4, invocationId: 's', target, arguments: [] });
    raw.send(stream('InfiniteStream') + stream('InfiniteStream'));
    assert.deepEqual(await raw.record(), failure('s', "Invocation ID 's' is already in use."));
    raw.send(record({ type: 5, invocationId: 's' }));
    const seen = (await raw.records(2)).sort((a, b) => a.type - b.type);
    assert.deepEqual(seen, [{ type: 1, target: 'StreamCanceled', arguments: [] }, { type: 3, invocationId: 's' }]);
    await raw.lives();
  });
});

// ---- What takes as long as the time limits that it is about.

describe('in time', { concurrency: true }, () => {
  test('ping timing: send timer and receive timer are independent', { timeout: 60_000 }, async (t) => {
    // It is spoken to all the time, and pings all the same; it never answers, and is not ended for it.
    const raw = await open(t);
    const began = Date.now();
    let pinged;
    for (let i = 0; pinged === undefined; i++) {
      raw.send(invocation('1', 'DelayedEcho', String(i), 500));
      const seen = await raw.record('an answer or a ping');
      if (seen.type === 6) pinged = Date.now() - began;
      assert.ok(Date.now() - began < 20_000, 'no ping within 20 s');
    }
    assert.ok(pinged > 13_000, `a ping after ${pinged} ms`);
  });

  test('long work in a hub must not starve pings (old servers timed clients out)', { timeout: 60_000 }, async (t) => {
    const client = await TestClient.start(t, { url: hub, transport: WebSockets });
    client.connection.serverTimeoutInMilliseconds = 17_000;
    // 3.1 holds the pings of the client back, but not its own.
    assert.equal(await within(client.connection.invoke('DelayedEcho', 'slow', 20_000), 'a slow call', 30_000), 'slow');
    assert.deepEqual(client.closed.items, []);
  });

  test('client must ping once before the server may time it out', { timeout: 60_000 }, async (t) => {
    // A client that never pings is silent for longer than the 30 seconds, and nothing happens to it.
    const raw = await open(t);
    assert.deepEqual(await raw.record('a ping', 20_000), { type: 6 });
    assert.deepEqual(await raw.record('the second ping', 20_000), { type: 6 });
    const third = await raw.record('the third ping', 20_000);
    assert.deepEqual(third, { type: 6 });
    await raw.lives();
  });

  test("keep-alive longer than the client's 30 s server timeout breaks clients", { timeout: 60_000 }, async (t) => {
    const over = [WebSockets, ServerSentEvents].map(async (transport) => {
      const client = await TestClient.start(t, { url: hub, transport });
      client.connection.serverTimeoutInMilliseconds = 30_000;
      // Nothing but pings for longer than the timeout.
      const quiet = new Log();
      const timer = setTimeout(() => quiet.push(true), 33_000);
      client.connection.onclose(() => quiet.push(false));
      const [alive] = await quiet.first(1, 'half a minute of silence', 40_000);
      clearTimeout(timer);
      assert.ok(alive, 'the client was timed out');
      assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });
    await Promise.all(over);
  });
});
