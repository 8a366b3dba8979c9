// Pages of other sites: CORS for the requests, and an allow list for the WebSockets that CORS does not cover.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { request, upgrade } from './raw.mjs';
import { Server, startsHubcast } from './server.mjs';

const FRIEND = 'https://friend.example';
const OTHER_FRIEND = 'http://localhost:3000';
const STRANGER = 'https://stranger.example';

const start = (t) => Server.start(t, { args: ['--allow-origin', FRIEND, '--allow-origin', OTHER_FRIEND] });

test('a WebSocket is opened for allowed origins, for the server\'s own pages, and for programs that are no browser', { skip: startsHubcast }, async (t) => {
  const { hub, origin } = await start(t);
  for (const from of [FRIEND, OTHER_FRIEND, origin, undefined]) {
    assert.equal((await upgrade('', { Origin: from }, { hub })).status, 101, `from ${from}`);
  }
});

test('a WebSocket is refused to a page of another origin', { skip: startsHubcast }, async (t) => {
  const { hub } = await start(t);
  const strangers = [STRANGER, 'http://friend.example', `${FRIEND}:8443`, `${FRIEND}.evil.example`, 'https://evil.example/https://friend.example', 'null'];
  for (const from of strangers) {
    const { status } = await upgrade('', { Origin: from }, { hub });
    assert.equal(status, 403, `from ${from}`);
  }
});

test('an allowed origin may read the answer to negotiate, with credentials', { skip: startsHubcast }, async (t) => {
  const { hub } = await start(t);
  for (const from of [FRIEND, OTHER_FRIEND]) {
    const { status, headers } = await request('POST', '/negotiate?negotiateVersion=1', { hub, headers: { Origin: from } });
    assert.equal(status, 200);
    assert.equal(headers['access-control-allow-origin'], from);
    assert.equal(headers['access-control-allow-credentials'], 'true');
    assert.match(headers.vary ?? '', /origin/i);
  }
});

test('another origin may not', { skip: startsHubcast }, async (t) => {
  const { hub } = await start(t);
  const { headers } = await request('POST', '/negotiate?negotiateVersion=1', { hub, headers: { Origin: STRANGER } });
  assert.equal(headers['access-control-allow-origin'], undefined);
});

test('a preflight for what the stock client sends is allowed to a friend and not to a stranger', { skip: startsHubcast }, async (t) => {
  const { hub } = await start(t);
  const wanted = ['x-requested-with', 'x-signalr-user-agent', 'content-type', 'authorization'];
  const preflight = (from) =>
    request('OPTIONS', '/negotiate?negotiateVersion=1', {
      hub,
      headers: { Origin: from, 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': wanted.join(',') },
    });
  const { status, headers } = await preflight(FRIEND);
  assert.ok(status === 200 || status === 204, `status ${status}`);
  assert.equal(headers['access-control-allow-origin'], FRIEND);
  assert.equal(headers['access-control-allow-credentials'], 'true');
  assert.match(headers['access-control-allow-methods'], /\bPOST\b/);
  const allowed = headers['access-control-allow-headers'].toLowerCase().split(/\s*,\s*/);
  for (const name of wanted) assert.ok(allowed.includes(name), `${name} is not among ${allowed}`);
  assert.equal((await preflight(STRANGER)).headers['access-control-allow-origin'], undefined);
});
