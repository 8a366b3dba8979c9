// The size limit of 32 KiB counts the bytes of one record, its separator included, and nothing else.

import assert from 'node:assert/strict';
import test from 'node:test';
import { RS, RawHub, completion, invocation } from './raw.mjs';

const LIMIT = 32 * 1024;

/** A call of Echo that is exactly this many bytes long, and the text that it echoes. */
function sized(bytes, id = '1', fill = 'x') {
  const room = bytes - Buffer.byteLength(invocation(id, 'Echo', ''));
  const width = Buffer.byteLength(fill);
  const text = fill.repeat(Math.floor(room / width)) + 'x'.repeat(room % width);
  const call = invocation(id, 'Echo', text);
  assert.equal(Buffer.byteLength(call), bytes);
  return { call, text };
}

for (const [what, fill] of Object.entries({ ASCII: 'x', 'two-byte characters': 'é', emoji: '🦀' })) {
  test(`a record of exactly the limit, of ${what}, is accepted`, async (t) => {
    const hub = await RawHub.open(t);
    const { call, text } = sized(LIMIT, '1', fill);
    hub.send(call);
    assert.deepEqual(await hub.record(), completion('1', text));
    await hub.lives();
  });
}

test('a record of one byte more ends the connection', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(sized(LIMIT + 1).call);
  await hub.connectionError();
});

test('an unfinished record may grow to the limit, and its end may come alone', async (t) => {
  const hub = await RawHub.open(t);
  const { call, text } = sized(LIMIT);
  hub.send(call.slice(0, 1000), call.slice(1000, -1), RS);
  assert.deepEqual(await hub.record(), completion('1', text));
});

test('an unfinished record that grows over the limit ends the connection', async (t) => {
  const hub = await RawHub.open(t);
  hub.send('x'.repeat(LIMIT));
  hub.send('x');
  await hub.connectionError();
});

test('several large records in one message are each within the limit', async (t) => {
  const hub = await RawHub.open(t);
  const calls = ['1', '2', '3', '4'].map((id) => sized(LIMIT, id));
  hub.send(calls.map(({ call }) => call).join(''));
  assert.deepEqual(await hub.records(4), calls.map(({ text }, i) => completion(String(i + 1), text)));
});

test('a small record before one that is too large is answered', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(invocation('0', 'Echo', 'small') + sized(LIMIT + 1).call);
  assert.deepEqual(await hub.record(), completion('0', 'small'));
  await hub.connectionError();
});

test('a small record behind one that is too large is not', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(sized(LIMIT + 1).call + invocation('0', 'Echo', 'small'));
  await hub.connectionError();
});

test('a megabyte without an end ends the connection, and the client still learns why', async (t) => {
  const hub = await RawHub.open(t);
  hub.send('x'.repeat(1024 * 1024));
  await hub.connectionError();
});

test('five thousand small calls in one large message are all answered, in order', async (t) => {
  const hub = await RawHub.open(t);
  const ids = Array.from({ length: 5000 }, (_, i) => String(i));
  hub.send(ids.map((id) => invocation(id, 'Echo', 'some small text')).join(''));
  assert.deepEqual(await hub.records(ids.length), ids.map((id) => completion(id, 'some small text')));
  await hub.lives();
});

test('five hundred records cut into pieces at unlucky places are all understood', async (t) => {
  const hub = await RawHub.open(t);
  const ids = Array.from({ length: 500 }, (_, i) => String(i));
  const bytes = Buffer.from(ids.map((id) => invocation(id, 'Echo', `é🦀 ${id}`)).join(''));
  // Binary messages, because a piece may end inside a character. 61 bytes is shorter than a record and shares no factor with most.
  for (let at = 0; at < bytes.length; at += 61) hub.send(bytes.subarray(at, at + 61));
  assert.deepEqual(await hub.records(ids.length), ids.map((id) => completion(id, `é🦀 ${id}`)));
});
