// Server-Sent Events as any HTTP client sees them: one response that never ends, and POSTs beside it.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { differsOn31, newRoom } from './helpers.mjs';
import { HANDSHAKE, RS, RawHub, completion, failure, invocation, negotiate, record, request, upgrade } from './raw.mjs';
import { EVENTS, Events, GONE, NO_DELETE, OTHER_TRANSPORT, Polling, check, isGone, newId } from './transports.mjs';

const echo = (id, text = id) => invocation(id, 'Echo', text);

// ---- The response.

test('negotiate offers events between WebSockets and polling, and for text only', async () => {
  const { availableTransports } = await negotiate();
  assert.deepEqual(availableTransports, [
    { transport: 'WebSockets', transferFormats: ['Text', 'Binary'] },
    { transport: 'ServerSentEvents', transferFormats: ['Text'] },
    { transport: 'LongPolling', transferFormats: ['Text', 'Binary'] },
  ]);
});

test('the response is an event stream that nobody should compress', async (t) => {
  const { response } = await Events.open(t, { handshake: false });
  assert.equal(response.statusCode, 200);
  assert.equal(response.headers['content-type'], 'text/event-stream');
  assert.equal(response.headers['content-encoding'], 'identity');
  assert.equal(response.headers['content-length'], undefined);
});

test('the response must not be cached', { skip: differsOn31('it says no-cache only') }, async (t) => {
  const { response } = await Events.open(t, { handshake: false });
  assert.equal(response.headers['cache-control'], 'no-cache,no-store');
  assert.equal(response.headers.pragma, 'no-cache');
});

test('headers and a first comment come at once, before the client has said anything, and nothing else does', async (t) => {
  const events = await Events.open(t, { handshake: false });
  await events.send(HANDSHAKE);
  await events.until((text) => text.includes(RS), 'the answer to the handshake');
  assert.equal(events.text, `:\r\ndata: {}${RS}\r\n\r\n`);
});

test('every event is one line of whole records and an empty line', async (t) => {
  const events = await Events.open(t);
  const before = events.text;
  await events.send(echo('1', 'x'));
  await events.until((text) => text.includes('"x"'), 'the answer');
  const [begin, answer, end] = events.text.slice(before.length).split(/(\{.*\})/);
  assert.deepEqual([begin, JSON.parse(answer), end], ['data: ', completion('1', 'x'), `${RS}\r\n\r\n`]);
});

for (const [what, text] of Object.entries({
  'line breaks of every kind': 'a\nb\r\nc\rd\n\ne\r\n\r\nf',
  'what looks like an event': '\r\n\r\ndata: {"type":7}\x1e\r\n\r\n',
  'separators of lines and paragraphs': 'a\u2028b\u2029c\u0085d',
  'emoji and accents': '🦀 é 房间',
  'twenty kilobytes': 'é🦀'.repeat(3500),
})) {
  test(`the text of a message may hold ${what}`, async (t) => {
    const events = await Events.open(t);
    await events.send(echo('1', text));
    assert.deepEqual(await events.record(), completion('1', text));
    await events.lives();
  });
}

test('several messages in one POST are answered in order', async (t) => {
  const events = await Events.open(t);
  const ids = Array.from({ length: 500 }, (_, i) => String(i));
  await events.send(ids.map((id) => echo(id)).join(''));
  assert.deepEqual(await events.records(ids.length), ids.map((id) => completion(id, id)));
});

test('an event may say that a call failed, and the connection lives', async (t) => {
  const events = await Events.open(t);
  await events.send(invocation('1', 'Nothing'));
  const error = "Failed to invoke 'Nothing' due to an error on the server. HubException: Method does not exist.";
  assert.deepEqual(await events.record(), failure('1', error));
  await events.lives();
});

test('messages of a room arrive as events, next to those of a WebSocket and a poll', async (t) => {
  const room = newRoom();
  const members = [await Events.open(t), await RawHub.open(t), await Polling.open(t)];
  for (const member of members) {
    await member.send(invocation('join', 'JoinRoom', room));
    let joined;
    do joined = await member.record(); while (joined.type !== 3);
    assert.deepEqual(joined, completion('join', null));
  }
  await members[0].send(record({ type: 1, target: 'SendMessage', arguments: [room, 'ann', 'hello'] }));
  for (const member of members) {
    let message;
    do message = await member.record(); while (message.arguments[0] === 'System');
    assert.deepEqual(message, { type: 1, target: 'ReceiveMessage', arguments: ['ann', 'hello'] });
  }
});

// ---- What asks for events.

for (const accept of ['text/event-stream', 'TEXT/Event-Stream', 'text/event-stream, */*', '*/*,text/event-stream', 'text/html, text/event-stream, */*;q=0.1']) {
  test(`Accept: ${accept} asks for events`, async (t) => {
    const events = await Events.open(t, { headers: { Accept: accept } });
    await events.lives();
  });
}

for (const accept of [undefined, '*/*', 'text/*', 'text/event-streams', 'text/event-stream;q=0.9', 'application/json']) {
  test(`Accept: ${accept} is a poll`, async () => {
    const id = await newId();
    const answer = await request('GET', id, { headers: accept ? { Accept: accept } : {} });
    check(answer, [200, '']);
    assert.equal(answer.headers['content-type'], 'application/octet-stream');
    await request('DELETE', id);
  });
}

test('the connection id of negotiate version 0 is an id for events', async (t) => {
  const { connectionId } = await negotiate('');
  const events = await Events.open(t, { id: `?id=${connectionId}` });
  await events.lives();
});

test('the public connection id is not', async () => {
  const { connectionId } = await negotiate();
  check(await request('GET', `?id=${connectionId}`, { headers: EVENTS }), GONE);
  check(await request('POST', `?id=${connectionId}`, { body: HANDSHAKE }), GONE);
});

test('other parameters of the query do not disturb', async (t) => {
  const events = await Events.open(t, { id: `?x=y&${(await newId()).slice(1)}&access_token=z` });
  await events.lives();
});

test('a second stream for the same connection is 409 with nothing in it, and the first lives', async (t) => {
  const events = await Events.open(t);
  check(await request('GET', events.id, { headers: EVENTS }), [409, '']);
  await events.lives();
});

test('no other transport can take over a stream, and trying does not disturb it', async (t) => {
  const events = await Events.open(t);
  check(await request('GET', events.id), OTHER_TRANSPORT);
  check(await upgrade(events.id), OTHER_TRANSPORT);
  check(await request('DELETE', events.id), NO_DELETE);
  for (const method of ['PUT', 'PATCH', 'OPTIONS', 'HEAD']) check(await request(method, events.id), [405, '']);
  await events.lives();
});

// ---- What the client sends.

test('what is posted before the stream is there waits for it', async (t) => {
  const id = await newId();
  check(await request('POST', id, { body: HANDSHAKE }), [200, '']);
  check(await request('POST', id, { body: echo('1') + echo('2').slice(0, 10) }), [200, '']);
  const events = await Events.open(t, { id, handshake: false });
  await events.send(echo('2').slice(10));
  assert.deepEqual(await events.records(3), [{}, completion('1', '1'), completion('2', '2')]);
});

// ---- The end.

test('when the client drops the stream the connection is over', async (t) => {
  const events = await Events.open(t);
  events.drop();
  await isGone(events.id);
});

test('when the client drops the stream before its handshake the connection is over, too', async (t) => {
  const events = await Events.open(t, { handshake: false });
  events.drop();
  await isGone(events.id);
});

test('a member whose stream was dropped does not disturb its room', async (t) => {
  const room = newRoom();
  const events = await Events.open(t);
  await events.send(invocation('join', 'JoinRoom', room));
  await events.records(2);
  const other = await RawHub.open(t);
  other.send(invocation('join', 'JoinRoom', room));
  await other.records(2);
  events.drop();
  await isGone(events.id);
  other.send(invocation('say', 'SendMessage', room, 'other', 'alone?'));
  assert.deepEqual((await other.record()).arguments, ['other', 'alone?']);
  assert.deepEqual(await other.record(), completion('say', null));
});

for (const [what, text] of Object.entries({
  'a message that is not JSON': `garbage${RS}`,
  'a second handshake': HANDSHAKE,
  'a message over the size limit': 'x'.repeat(40_000),
})) {
  test(`${what} is taken with 200; then the stream says why it ends, and ends`, async (t) => {
    const events = await Events.open(t);
    await events.send(text);
    await events.connectionError();
  });
}

test('what comes behind a bad message is not answered, what comes before it is', async (t) => {
  const events = await Events.open(t);
  await events.send(`${echo('1')}garbage${RS}${echo('2')}`);
  assert.deepEqual(await events.record(), completion('1', '1'));
  await events.connectionError();
});

test('a client may say goodbye', { skip: differsOn31('it does not expect a Close message from a client') }, async (t) => {
  const events = await Events.open(t);
  await events.send(record({ type: 7 }));
  let end = await events.next('the end');
  if ('record' in end) {
    assert.equal(end.record.type, 7);
    assert.equal(end.record.error, undefined);
    end = await events.next('the end of the events');
  }
  assert.deepEqual(end, { end: 'complete' });
  await isGone(events.id);
});

for (const [what, text, error] of [
  ['garbage', 'garbage', 'An unexpected error occurred during connection handshake.'],
  ['an unknown protocol', '{"protocol":"nope","version":1}', "The protocol 'nope' is not supported."],
  ['an unknown version', '{"protocol":"json","version":9}', "The server does not support version 9 of the 'json' protocol."],
]) {
  test(`a handshake of ${what} is refused and the stream ends`, async (t) => {
    const events = await Events.open(t, { handshake: false });
    await events.send(text + RS);
    assert.deepEqual(await events.record(), { error });
    await events.end();
    await isGone(events.id);
  });
}

test('a binary protocol is refused: events are text', async (t) => {
  const events = await Events.open(t, { handshake: false });
  await events.send(record({ protocol: 'messagepack', version: 1 }));
  const { error } = await events.record();
  // A server that speaks it says that it cannot do so here; one that does not, that it does not know it.
  assert.ok([
    "Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' transfer format.",
    "The protocol 'messagepack' is not supported.",
  ].includes(error), error);
  await events.end();
  await isGone(events.id);
});

test('streams of which each is dropped at once leave the server as it was', async (t) => {
  for (let i = 0; i < 50; i++) (await Events.open(t, { handshake: i % 2 === 0 })).drop();
  await (await Events.open(t)).lives();
});

test('a hundred streams at once are all answered', async (t) => {
  const streams = await Promise.all(Array.from({ length: 100 }, () => Events.open(t)));
  await Promise.all(streams.map((events, i) => events.lives(String(i))));
});

// ---- Silence. These take as long as the server's time limits, side by side.

describe('silence', { concurrency: true }, () => {
  const since = (begin) => (Date.now() - begin) / 1000;

  test('a stream on which nothing happens gets a ping event after 15 s, and nothing before', async (t) => {
    const events = await Events.open(t);
    const begin = Date.now();
    const before = events.text;
    await events.until((text) => text.length > before.length, 'a ping', 20_000);
    assert.ok(since(begin) >= 13 && since(begin) <= 18, `after ${since(begin)} s`);
    assert.equal(events.text, `${before}data: {"type":6}${RS}\r\n\r\n`);
    assert.deepEqual(await events.record(), { type: 6 });
    await events.lives();
  });

  test('a stream without a handshake is cancelled after 15 s', async (t) => {
    const events = await Events.open(t, { handshake: false });
    const begin = Date.now();
    assert.deepEqual(await events.record('the answer', 20_000), { error: 'Handshake was canceled.' });
    assert.ok(since(begin) >= 14 && since(begin) <= 18, `after ${since(begin)} s`);
    await events.end();
    await isGone(events.id);
  });
});

