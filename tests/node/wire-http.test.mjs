// HTTP requests to the hub's own path that are not a proper WebSocket upgrade, and upgrades with every kind of id.

import assert from 'node:assert/strict';
import test from 'node:test';
import { DEADLINE, hubUrl } from './helpers.mjs';
import { RawHub, negotiate, request, upgrade, upgradeHeaders } from './raw.mjs';

const EVENTS = { Accept: 'text/event-stream' };
const NO_ID = [400, 'Connection ID required'];
const UNKNOWN = [404, 'No Connection with that ID'];

async function token() {
  return encodeURIComponent((await negotiate()).connectionToken);
}

function check(answer, [status, body]) {
  assert.deepEqual([answer.status, answer.body], [status, body]);
}

for (const method of ['PUT', 'PATCH', 'OPTIONS', 'HEAD']) {
  test(`${method} on the hub is 405 with nothing in it`, async () => {
    const answer = await request(method);
    check(answer, [405, '']);
    assert.match(answer.headers['content-type'], /^text\/plain/);
  });
}

for (const [what, method, headers] of [['GET', 'GET', {}], ['GET for events', 'GET', EVENTS], ['POST', 'POST', {}], ['DELETE', 'DELETE', {}]]) {
  for (const query of ['', '?id=', '?other=x']) {
    test(`${what} of the hub with the query "${query}" lacks an id`, async () => {
      const answer = await request(method, query, { headers });
      check(answer, NO_ID);
      assert.match(answer.headers['content-type'], /^text\/plain/);
    });
  }
  test(`${what} with an unknown id is 404`, async () => {
    const answer = await request(method, '?id=unknown', { headers });
    check(answer, UNKNOWN);
    assert.match(answer.headers['content-type'], /^text\/plain/);
  });
}

test('the public connection id is not an id for requests', async () => {
  const { connectionId } = await negotiate();
  check(await request('GET', `?id=${connectionId}`), UNKNOWN);
  check(await upgrade(`?id=${connectionId}`), UNKNOWN);
});

test('DELETE of a negotiated connection that no transport uses yet is refused', async () => {
  check(await request('DELETE', `?id=${await token()}`), [400, 'Cannot terminate this connection using the DELETE endpoint.']);
});

test('a good upgrade is answered with 101 and promises nothing that was not agreed', async () => {
  const answer = await upgrade('', { 'Sec-WebSocket-Protocol': 'json, other', 'Sec-WebSocket-Extensions': 'permessage-deflate' });
  assert.equal(answer.status, 101);
  assert.match(answer.headers.connection, /^upgrade$/i);
  assert.match(answer.headers.upgrade, /^websocket$/i);
  assert.equal(answer.headers['sec-websocket-protocol'], undefined);
  assert.equal(answer.headers['sec-websocket-extensions'], undefined);
});

test('an upgrade proves that it read the key', async () => {
  // The example of RFC 6455, section 1.3.
  const answer = await upgrade('', { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' });
  assert.equal(answer.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
});

test('upgrade headers may be written as browsers and proxies write them', async () => {
  for (const changes of [{ Connection: 'keep-alive, Upgrade' }, { Connection: 'upgrade', Upgrade: 'WebSocket' }]) {
    assert.equal((await upgrade('', changes)).status, 101);
  }
});

for (const query of ['', '?id=', '?id', '?access_token=x&other=y']) {
  test(`an upgrade with the query "${query}" makes a new connection`, async (t) => {
    const hub = await RawHub.open(t, { query });
    await hub.lives();
  });
}

test('an upgrade with an unknown id is 404 before anything else', async () => {
  check(await upgrade('?id=unknown'), UNKNOWN);
  check(await upgrade('?ID=unknown'), UNKNOWN);
});

test('the value of a token is case-sensitive', async () => {
  const { connectionToken } = await negotiate();
  const other = connectionToken.toLowerCase() === connectionToken ? connectionToken.toUpperCase() : connectionToken.toLowerCase();
  check(await upgrade(`?id=${encodeURIComponent(other)}`), UNKNOWN);
});

test('two ids are no id that anybody was given', async () => {
  check(await upgrade(`?id=${await token()}&id=${await token()}`), UNKNOWN);
});

test('the name of the id in the query is not case-sensitive', async (t) => {
  const hub = await RawHub.open(t, { query: `?ID=${await token()}` });
  await hub.lives();
});

test('no request with the id of a live WebSocket disturbs it', async (t) => {
  const id = await token();
  const hub = await RawHub.open(t, { query: `?id=${id}` });
  check(await upgrade(`?id=${id}`), [409, '']);
  check(await request('POST', `?id=${id}`, { body: 'x' }), [405, 'POST requests are not allowed for WebSocket connections.']);
  check(await request('DELETE', `?id=${id}`), [400, 'Cannot terminate this connection using the DELETE endpoint.']);
  for (const [headers, transport] of [[{}, 'LongPolling'], [EVENTS, 'ServerSentEvents']]) {
    // Which of the two depends on whether the server offers that transport at all.
    const answer = await request('GET', `?id=${id}`, { headers });
    const refusals = ['400 Cannot change transports mid-connection', `404 ${transport} transport not supported by this end point type`];
    assert.ok(refusals.includes(`${answer.status} ${answer.body}`), `${answer.status} ${answer.body}`);
  }
  await hub.lives();
});

for (const [how, end] of Object.entries({
  'closed by the client': (socket) => socket.close(1000),
  'dropped without a close frame': (socket) => socket.terminate(),
})) {
  test(`an id cannot be used again after its WebSocket was ${how}`, async (t) => {
    const id = await token();
    const hub = await RawHub.open(t, { query: `?id=${id}` });
    end(hub.socket);
    await hub.next('the end of the socket');
    // The server notices a dropped socket in its own time; until then the id counts as in use.
    const limit = Date.now() + DEADLINE;
    let answer;
    do answer = await upgrade(`?id=${id}`); while (answer.status === 409 && Date.now() < limit);
    check(answer, UNKNOWN);
    check(await request('POST', `?id=${id}`, { body: 'x' }), UNKNOWN);
    check(await request('GET', `?id=${id}`), UNKNOWN);
    check(await request('DELETE', `?id=${id}`), UNKNOWN);
  });
}

for (const [what, changes] of Object.entries({
  'version 12 of WebSocket': { 'Sec-WebSocket-Version': '12' },
  'a version that is no number': { 'Sec-WebSocket-Version': 'abc' },
  'no version': { 'Sec-WebSocket-Version': undefined },
  'no key': { 'Sec-WebSocket-Key': undefined },
  'a key that is too short': { 'Sec-WebSocket-Key': 'abc' },
  'a key that is not base64': { 'Sec-WebSocket-Key': '!!!!!!!!!!!!!!!!!!!!!!==' },
  'another protocol to upgrade to': { Upgrade: 'h2c' },
  'no Connection: upgrade': { Connection: 'keep-alive' },
  'no Upgrade header': { Upgrade: undefined },
})) {
  test(`an upgrade with ${what} is an ordinary GET, which lacks an id`, async () => {
    check(await upgrade('', changes), NO_ID);
  });
}

test('events win over an upgrade when a request asks for both', async () => {
  check(await upgrade('', EVENTS), NO_ID);
});

test('a POST with upgrade headers is a POST', async () => {
  check(await upgrade('', {}, { method: 'POST' }), NO_ID);
  check(await upgrade('?id=unknown', {}, { method: 'POST' }), UNKNOWN);
});

test('PUT with upgrade headers is 405', async () => {
  check(await upgrade('', {}, { method: 'PUT' }), [405, '']);
});

for (const suffix of ['/other', '/other/negotiate', '//negotiate', '/negotiate/other']) {
  test(`${suffix} below the hub is nothing: 404`, async () => {
    for (const [method, headers] of [['GET', {}], ['POST', {}], ['GET', upgradeHeaders()]]) {
      const answer = await request(method, suffix, { headers });
      answer.socket?.destroy();
      assert.equal(answer.status, 404, method);
    }
  });
}

test('paths beside the hub are not the hub', async () => {
  const { pathname } = new URL(hubUrl());
  for (const path of [`/${pathname}`, `${pathname}%2Fnegotiate`, `${pathname}x`, `${pathname}x/negotiate`]) {
    assert.equal((await request('GET', '', { path })).status, 404, `GET ${path}`);
    assert.equal((await upgrade('', {}, { path })).status, 404, `upgrade of ${path}`);
    // Whoever serves the pages there may say that they cannot be posted to.
    const { status } = await request('POST', '', { path });
    assert.ok([404, 405].includes(status), `POST ${path}: ${status}`);
  }
});

test('one slash at the end of the hub\'s path is tolerated', async () => {
  check(await request('GET', '/'), NO_ID);
  assert.equal((await upgrade('/')).status, 101);
});

test('the hub\'s path is not case-sensitive', async () => {
  const path = new URL(hubUrl()).pathname.toLowerCase();
  check(await request('GET', '', { path }), NO_ID);
  assert.equal((await upgrade('', {}, { path })).status, 101);
});
