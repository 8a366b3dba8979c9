// Ways to connect, many at once, and the ways a connection ends in peace.

import assert from 'node:assert/strict';
import test from 'node:test';
import { HttpTransportType, HubConnectionState } from '@microsoft/signalr';
import { ChatClient, hubUrl, joined, newRoom } from './helpers.mjs';

test('the client knows its connection id after negotiation, and it is the id others see', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  assert.match(ann.id, /^\S{16,}$/);
  await ann.join(room);
  assert.deepEqual(await ann.inbox.first(1), [joined(ann.id, room)]);
});

test('the client may insist on WebSockets', async (t) => {
  const client = await ChatClient.start(t, { http: { transport: HttpTransportType.WebSockets } });
  assert.equal(await client.invoke('Echo', 'x'), 'x');
});

test('skipping negotiation works; the server has an id for the connection that the client does not know', async (t) => {
  const room = newRoom();
  const client = await ChatClient.start(t, { http: { skipNegotiation: true, transport: HttpTransportType.WebSockets } });
  assert.equal(client.id, null);
  await client.join(room);
  await client.say(room, 'me', 'hello');
  const [[system, notice], message] = await client.inbox.first(2);
  assert.equal(system, 'System');
  assert.ok(notice.endsWith(` has joined the room ${room}`), notice);
  assert.match(notice.split(' ')[0], /^\S{16,}$/);
  assert.deepEqual(message, ['me', 'hello']);
});

test('two connections never share an id', async (t) => {
  const clients = await Promise.all(Array.from({ length: 20 }, () => ChatClient.start(t)));
  assert.equal(new Set(clients.map((client) => client.id)).size, clients.length);
});

test('access tokens, headers and other query parameters do not disturb', async (t) => {
  const http = { accessTokenFactory: () => 'not.checked.here', headers: { 'X-Whatever': 'yes' } };
  const client = await ChatClient.start(t, { url: `${hubUrl()}?theme=dark&id2=x`, http });
  assert.equal(await client.invoke('Echo', 'x'), 'x');
});

test('the path of the hub is not case-sensitive', async (t) => {
  const url = new URL(hubUrl());
  url.pathname = url.pathname.toUpperCase();
  const client = await ChatClient.start(t, { url: url.href });
  assert.equal(await client.invoke('Echo', 'x'), 'x');
});

test('stop() ends in onclose without an error, and later calls fail at once', async (t) => {
  const client = await ChatClient.start(t);
  await client.stop();
  assert.deepEqual(await client.closed.first(1, 'onclose'), [{ error: undefined }]);
  assert.equal(client.connection.state, HubConnectionState.Disconnected);
  await assert.rejects(client.invoke('Echo', 'x'), /not in the 'Connected' State/);
});

test('stop() during a call rejects the call and not the others\' connections', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  await bob.join(room);
  const call = ann.invoke('Echo', 'never mind').catch(() => 'rejected');
  await ann.stop();
  assert.ok(['rejected', 'never mind'].includes(await call));
  await bob.say(room, 'bob', 'fine');
  assert.deepEqual((await bob.inbox.first(2))[1], ['bob', 'fine']);
});

test('starting and stopping fifty times in a row leaves nothing behind', async (t) => {
  const client = ChatClient.create(t);
  const ids = new Set();
  for (let round = 0; round < 50; round++) {
    await client.start();
    ids.add(client.id);
    await client.stop();
  }
  assert.equal(ids.size, 50);
  assert.deepEqual(client.closed.items, Array.from({ length: 50 }, () => ({ error: undefined })));
});

test('a hundred connections at once all hear each other', async (t) => {
  const room = newRoom();
  const clients = await Promise.all(Array.from({ length: 100 }, () => ChatClient.start(t)));
  await Promise.all(clients.map((client) => client.join(room)));
  await Promise.all(clients.map((client, i) => client.say(room, `user ${i}`, 'here')));
  const everybody = clients.map((_, i) => `user ${i}`).sort();
  for (const [i, { inbox }] of clients.entries()) {
    const heard = (items) => items.filter(([, text]) => text === 'here').map(([user]) => user);
    const users = await inbox.until((items) => heard(items).length >= clients.length && heard(items), `client ${i} hears all`);
    assert.deepEqual(users.sort(), everybody);
  }
});
