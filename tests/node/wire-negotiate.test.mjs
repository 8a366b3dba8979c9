// POST {hub}/negotiate, as seen by any HTTP client.

import assert from 'node:assert/strict';
import test from 'node:test';
import { differsOn31, hubUrl } from './helpers.mjs';
import { RawHub, negotiate, request, upgrade } from './raw.mjs';

/** The parts that every successful answer has, whatever other transports come later. */
function checkTransports({ availableTransports }) {
  assert.deepEqual(availableTransports[0], { transport: 'WebSockets', transferFormats: ['Text', 'Binary'] });
}

test('negotiate answers 200 with JSON whose length is declared', async () => {
  const answer = await request('POST', '/negotiate?negotiateVersion=1');
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['content-type'], 'application/json');
  assert.equal(Number(answer.headers['content-length']), Buffer.byteLength(answer.body));
});

for (const query of ['?negotiateVersion=1', '?negotiateVersion=2', '?negotiateVersion=99', '?x=y&negotiateVersion=1&z']) {
  test(`negotiate${query} is version 1, with a token that is not the connection id`, async () => {
    const body = await negotiate(query);
    assert.equal(body.negotiateVersion, 1);
    assert.match(body.connectionId, /^[\w-]{16,}$/);
    assert.match(body.connectionToken, /^[\w.~-]{22,}$/);
    assert.notEqual(body.connectionToken, body.connectionId);
    checkTransports(body);
  });
}

for (const query of ['', '?negotiateVersion=0', '?other=1']) {
  test(`negotiate${query} is version 0, whose connection id is what later requests use`, async (t) => {
    const body = await negotiate(query);
    assert.equal(body.negotiateVersion, 0);
    assert.equal(body.connectionToken, undefined);
    assert.match(body.connectionId, /^[\w.~-]{22,}$/);
    checkTransports(body);
    const hub = await RawHub.open(t, { query: `?id=${encodeURIComponent(body.connectionId)}` });
    await hub.lives();
  });
}

for (const value of ['abc', '', '1.5', '99999999999', '1,0']) {
  const skip = differsOn31('it says "The client requested an invalid protocol version" instead');
  test(`negotiate version "${value}" is refused in the body of a 200`, { skip }, async () => {
    const body = await negotiate(`?negotiateVersion=${value}`);
    assert.deepEqual(body, { error: 'The client requested a non-integer protocol version.' });
  });
}

test('a negative negotiate version is refused in the body of a 200', async () => {
  const body = await negotiate('?negotiateVersion=-1');
  assert.deepEqual(body, { error: "The client requested version '-1', but the server does not support this version." });
});

for (const method of ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD']) {
  test(`${method} on negotiate is 405 with nothing in it`, async () => {
    const answer = await request(method, '/negotiate');
    assert.deepEqual([answer.status, answer.body], [405, '']);
    assert.match(answer.headers['content-type'], /^text\/plain/);
  });
}

test('a WebSocket upgrade of negotiate is 405', async () => {
  assert.equal((await upgrade('/negotiate')).status, 405);
});

test('the body and its type are not looked at', async () => {
  for (const [type, body] of [['application/json', '{"x":1}'], ['text/plain;charset=UTF-8', ''], ['nonsense', 'x'.repeat(10_000)]]) {
    const answer = await request('POST', '/negotiate?negotiateVersion=1', { headers: { 'Content-Type': type }, body });
    assert.equal(answer.status, 200);
    assert.equal(JSON.parse(answer.body).negotiateVersion, 1);
  }
});

test('the path and the names in the query are not case-sensitive', async () => {
  const path = `${new URL(hubUrl()).pathname.toUpperCase()}/Negotiate?NEGOTIATEVERSION=1`;
  const answer = await request('POST', '', { path });
  assert.equal(answer.status, 200);
  assert.equal(JSON.parse(answer.body).negotiateVersion, 1);
});

test('one slash at the end is tolerated', async () => {
  const answer = await request('POST', '/negotiate/?negotiateVersion=1');
  assert.equal(answer.status, 200);
  assert.equal(JSON.parse(answer.body).negotiateVersion, 1);
});

test('every negotiation makes new ids', async () => {
  const bodies = await Promise.all(Array.from({ length: 50 }, () => negotiate()));
  assert.equal(new Set(bodies.flatMap((body) => [body.connectionId, body.connectionToken])).size, 100);
});

test('stateful reconnect is not promised when it was not asked for', async () => {
  assert.ok(!('useStatefulReconnect' in (await negotiate())));
});
