// WebSockets without SignalR, as a stock client of them sees /ws, /echo and /api/chat; and what stock clients of the hub see of that.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { allVersions } from './all-versions.mjs';
import { Log, within } from './helpers.mjs';
import { upgrade } from './raw.mjs';
import { Server, startsHubcast } from './server.mjs';
import { open } from './sockets.mjs';

test('texts come back with a greeting and binary messages as they are', { skip: startsHubcast }, async (t) => {
  const { origin } = await Server.start(t);
  for (const [path, greeting] of [['/ws', 'Server: Hello. You said: '], ['/echo', 'Server Response: '], ['/echo?raw=1', '']]) {
    const { socket, say, end } = await open(t, origin + path);
    for (const text of ['Hello', 'ü世🦀'.repeat(10_000), 'x', '']) assert.equal(await say(text), greeting + text);
    const bytes = Buffer.from([0, 255, 128]);
    assert.deepEqual(await say(bytes), bytes);
    socket.close(4321, 'enough');
    assert.equal(await end(), 4321);
  }
});

test('fragments, pings and an offer of compression are nothing special', { skip: startsHubcast }, async (t) => {
  const { origin } = await Server.start(t);
  const { socket, next, end } = await open(t, `${origin}/echo?raw=1`);
  assert.equal(socket.extensions, '');
  const pong = once(socket, 'pong');
  socket.send('one ', { fin: false });
  socket.ping('there?');
  socket.send('two', { fin: true });
  assert.equal(await next(), 'one two');
  assert.equal(String((await within(pong, 'a pong'))[0]), 'there?');
  socket.close();
  assert.equal(await end(), 1005);
});

test('a message that is too long, and a server that stops, are told by their codes', { skip: startsHubcast }, async (t) => {
  const server = await Server.start(t, { args: ['--websocket-max-message', '1000'] });
  const long = await open(t, `${server.origin}/ws`);
  long.socket.send('x'.repeat(1001));
  assert.equal(await long.end(), 1009);
  const stays = await open(t, `${server.origin}/ws`);
  const ended = server.end('SIGTERM', 5_000);
  assert.equal(await stays.end(), 1001);
  assert.equal((await ended).code, 0);
});

test('all others of a room hear what is said, clients of the hub of every version and encoding among them', { skip: startsHubcast }, async (t) => {
  const { origin, hub } = await Server.start(t);
  const members = [];
  for (const { signalr, MessagePackHubProtocol } of allVersions) {
    for (const packed of [false, true]) {
      const builder = new signalr.HubConnectionBuilder().withUrl(hub).configureLogging(signalr.LogLevel.None);
      if (packed) builder.withHubProtocol(new MessagePackHubProtocol());
      const connection = builder.build();
      const heard = new Log();
      connection.on('ReceiveMessage', (...call) => call[0] !== 'System' && heard.push(call));
      t.after(() => within(connection.stop(), 'stopping a connection'));
      await within(connection.start(), 'starting a connection');
      await within(connection.invoke('JoinRoom', 'General'), 'joining');
      members.push({ connection, heard, name: `${signalr.VERSION} ${packed}` });
    }
  }
  const enter = async (nickname) => {
    const raw = await open(t, `${origin}/api/chat?${new URLSearchParams({ nickname })}`);
    // Who is answered is in the room.
    raw.socket.ping();
    await within(once(raw.socket, 'pong'), 'a pong');
    return raw;
  };
  const mira = await enter(' Mira & L ');
  const ada = await enter('Ada');
  const said = ['hello', 'ü世🦀'];
  for (const text of said) {
    mira.socket.send(text);
    assert.equal(await ada.next(), text);
  }
  for (const { connection, heard, name } of members) {
    assert.deepEqual(await heard.first(2), said.map((text) => ['Mira & L', text]), name);
    await within(connection.invoke('SendMessage', 'General', 'Hugo', name), 'the completion of SendMessage');
    for (const raw of [mira, ada]) assert.equal(await raw.next(), `Hugo: ${name}`);
  }
  ada.socket.send(Buffer.from([1]));
  assert.equal(await ada.end(), 1003);
});

test('who asks the chat for an impossible name is refused before there is a WebSocket', { skip: startsHubcast }, async (t) => {
  const { hub } = await Server.start(t);
  for (const query of ['', '?nickname=System', `?nickname=${'x'.repeat(41)}`]) {
    const { status, body } = await upgrade('', {}, { hub, path: `/api/chat${query}` });
    assert.equal(status, 400);
    assert.match(body, /'nickname'/);
  }
});
