// Servers that die, drain and come back, and the clients that live through it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { HubConnectionState } from '@microsoft/signalr';
import { ChatClient, Log, joined, newRoom, within } from './helpers.mjs';
import { HANDSHAKE, RawHub, completion, invocation } from './raw.mjs';
import { Server, startsHubcast } from './server.mjs';

/** A client that reconnects by itself, many times a second, and says what it goes through. */
async function persistent(t, server) {
  const client = await ChatClient.start(t, {
    url: server.hub,
    build: (builder) => builder.withAutomaticReconnect({ nextRetryDelayInMilliseconds: () => 50 }),
  });
  client.reconnecting = new Log();
  client.reconnected = new Log();
  client.connection.onreconnecting((error) => client.reconnecting.push({ error }));
  client.connection.onreconnected((id) => client.reconnected.push(id));
  return client;
}

test('a client with automatic reconnect comes back when the server is killed and started again', { skip: startsHubcast }, async (t) => {
  const room = newRoom();
  const first = await Server.start(t);
  const ann = await persistent(t, first);
  const bob = await persistent(t, first);
  const before = ann.id;
  await ann.join(room);

  await first.end('SIGKILL');
  await ann.reconnecting.first(1, 'onreconnecting');
  assert.equal(ann.connection.state, HubConnectionState.Reconnecting);

  await Server.start(t, { port: first.port });
  const [id] = await ann.reconnected.first(1, 'onreconnected');
  await bob.reconnected.first(1, 'onreconnected of the other');
  assert.equal(ann.id, id);
  assert.notEqual(id, before);

  // Membership belonged to the connection that died: what is sent before joining again does not arrive.
  await bob.say(room, 'bob', 'too early');
  await ann.join(room);
  await bob.say(room, 'bob', 'welcome back');
  assert.deepEqual(await ann.inbox.first(3), [joined(before, room), joined(id, room), ['bob', 'welcome back']]);
  assert.deepEqual(ann.closed.items, []);
});

test('a client with automatic reconnect comes back after the server was drained and started again', { skip: startsHubcast }, async (t) => {
  const room = newRoom();
  const first = await Server.start(t);
  const ann = await persistent(t, first);
  await ann.join(room);

  const { code, took } = await first.end('SIGTERM');
  assert.equal(code, 0, first.stderr);
  assert.ok(took < 5000, `the server took ${took} ms to end`);
  await ann.reconnecting.first(1, 'onreconnecting');

  await Server.start(t, { port: first.port });
  const [id] = await ann.reconnected.first(1, 'onreconnected');
  await ann.join(room);
  await ann.say(room, 'ann', 'here I am');
  assert.deepEqual((await ann.inbox.first(3)).slice(1), [joined(id, room), ['ann', 'here I am']]);
  assert.deepEqual(ann.closed.items, []);
});

test('a client that gives up reconnecting is closed', { skip: startsHubcast }, async (t) => {
  const server = await Server.start(t);
  const client = await ChatClient.start(t, { url: server.hub, build: (builder) => builder.withAutomaticReconnect([0, 10]) });
  await server.end('SIGKILL');
  await client.closed.first(1, 'onclose');
  assert.equal(client.connection.state, HubConnectionState.Disconnected);
});

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`a client without automatic reconnect is closed when the server ends by ${signal}`, { skip: startsHubcast }, async (t) => {
    const server = await Server.start(t);
    const client = await ChatClient.start(t, { url: server.hub });
    await server.end(signal);
    await client.closed.first(1, 'onclose');
    assert.equal(client.connection.state, HubConnectionState.Disconnected);
  });
}

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`${signal} tells every client that it may come back, closes and exits with 0`, { skip: startsHubcast }, async (t) => {
    const server = await Server.start(t);
    const hubs = await Promise.all(Array.from({ length: 20 }, () => RawHub.open(t, { url: server.hub })));
    const ended = server.end(signal);
    for (const hub of hubs) {
      assert.deepEqual(await hub.record('the Close message'), { type: 7, allowReconnect: true });
      const end = await hub.next('the close frame');
      assert.ok([1000, 1001].includes(end.close), `closed with ${end.close}`);
    }
    const { code, took } = await ended;
    assert.equal(code, 0, server.stderr);
    assert.ok(took < 5000, `the server took ${took} ms to end`);
  });
}

test('messages that were accepted before SIGTERM are delivered before the goodbye', { skip: startsHubcast }, async (t) => {
  const room = newRoom();
  const server = await Server.start(t);
  const ann = await RawHub.open(t, { url: server.hub });
  const bob = await RawHub.open(t, { url: server.hub });
  bob.send(invocation('join', 'JoinRoom', room));
  await bob.records(2);
  const count = 200;
  for (let i = 0; i < count; i++) ann.send(invocation(String(i), 'SendMessage', room, 'ann', `${i} ${'x'.repeat(1000)}`));
  for (let i = 0; i < count; i++) assert.deepEqual(await ann.record(), completion(String(i), null));

  const ended = server.end('SIGTERM');
  for (let i = 0; i < count; i++) {
    const message = await bob.record(`message ${i}`);
    assert.ok(message.arguments?.[1].startsWith(`${i} `), `expected message ${i}, got ${JSON.stringify(message).slice(0, 100)}`);
  }
  assert.deepEqual(await bob.record('the Close message'), { type: 7, allowReconnect: true });
  assert.equal((await ended).code, 0);
});

test('clients that do not cooperate cannot keep a server from ending in time', { skip: startsHubcast }, async (t) => {
  const server = await Server.start(t);
  // One has not said anything yet, one stopped in the middle of the handshake, and one will not read its goodbye.
  await RawHub.open(t, { url: server.hub, handshake: false });
  const half = await RawHub.open(t, { url: server.hub, handshake: false });
  half.send(HANDSHAKE.slice(0, 10));
  const deaf = await RawHub.open(t, { url: server.hub });
  deaf.socket.pause();
  const { code, took } = await server.end('SIGTERM');
  assert.equal(code, 0, server.stderr);
  assert.ok(took < 5000, `the server took ${took} ms to end`);
});

test('a draining server takes no new connections', { skip: startsHubcast }, async (t) => {
  const server = await Server.start(t);
  const deaf = await RawHub.open(t, { url: server.hub }); // keeps the server busy with its goodbye
  deaf.socket.pause();
  const witness = await RawHub.open(t, { url: server.hub });
  const ended = server.end('SIGTERM');
  await witness.record('the goodbye');
  const late = ChatClient.create(t, { url: server.hub });
  await assert.rejects(within(late.connection.start(), 'the refusal'));
  assert.equal((await ended).code, 0);
});

test('the port is free at once when a server has ended, however it ended', { skip: startsHubcast }, async (t) => {
  let server = await Server.start(t);
  for (const signal of ['SIGTERM', 'SIGKILL', 'SIGINT']) {
    const hub = await RawHub.open(t, { url: server.hub });
    await server.end(signal);
    await hub.next('the end of the connection');
    server = await Server.start(t, { port: server.port });
  }
});
