// MessagePack beside JSON: stock clients of both in one room, and what is written in bytes that nobody should write.

import assert from 'node:assert/strict';
import test from 'node:test';
import WebSocket from 'ws';
import { HttpTransportType } from '@microsoft/signalr';
import { MessagePackHubProtocol } from '@microsoft/signalr-protocol-msgpack';
import { ChatClient, DEADLINE, differsOn31, hubUrl, joined, newRoom, within } from './helpers.mjs';

const packed = (transport) => ({
  http: transport === undefined ? {} : { transport },
  build: (builder) => builder.withHubProtocol(new MessagePackHubProtocol()),
});
const options = { skip: differsOn31('the peer has no MessagePack') };

for (const [name, transport] of [['WebSockets', HttpTransportType.WebSockets], ['Long Polling', HttpTransportType.LongPolling]]) {
  test(`a room may have clients of both encodings, over ${name}`, options, async (t) => {
    const room = newRoom();
    const json = await ChatClient.start(t, { http: { transport } });
    const pack = await ChatClient.start(t, packed(transport));
    await json.join(room);
    await pack.join(room);
    await json.say(room, 'json', 'Grüße 😀');
    await pack.say(room, 'pack', 'x'.repeat(20_000));
    const expected = [joined(pack.id, room), ['json', 'Grüße 😀'], ['pack', 'x'.repeat(20_000)]];
    assert.deepEqual((await json.inbox.first(4)).slice(1), expected);
    assert.deepEqual(await pack.inbox.first(3), expected);
  });

  test(`a thousand messages in MessagePack arrive in order, over ${name}`, options, async (t) => {
    const room = newRoom();
    const client = await ChatClient.start(t, packed(transport));
    await client.join(room);
    const sent = Array.from({ length: 1000 }, (_, number) => `number ${number}`);
    for (const text of sent) client.connection.send('SendMessage', room, 'pack', text);
    const seen = await client.inbox.first(1001, 'a thousand messages', 3 * DEADLINE);
    assert.deepEqual(seen.slice(1).map(([, text]) => text), sent);
  });
}

test('Echo gives back every kind of value in MessagePack', options, async (t) => {
  const client = await ChatClient.start(t, packed());
  for (const value of [null, true, 0, -1, 4294967296, 1.5, '', 'é', [], {}, [1, [2, { three: null }]], { a: { b: [false] } }]) {
    assert.deepEqual(await client.invoke('Echo', value), value);
  }
});

test('failures in MessagePack have the same texts', options, async (t) => {
  const client = await ChatClient.start(t, packed());
  await assert.rejects(client.invoke('Nothing'), /Failed to invoke 'Nothing' due to an error on the server\. HubException: Method does not exist\.$/);
  await assert.rejects(client.invoke('JoinRoom'), /Failed to invoke 'JoinRoom' due to an error on the server\.$/);
  await assert.rejects(client.invoke('JoinRoom', 7), /Failed to invoke 'JoinRoom' due to an error on the server\.$/);
  await client.invoke('Echo', 'still there');
});

/** A raw socket that has shaken hands in MessagePack. Gives what comes as bytes, and how it is closed. */
async function socket(t) {
  const raw = new WebSocket(hubUrl().replace(/^http/, 'ws'));
  t.after(() => raw.terminate());
  const frames = [];
  let note = () => {};
  raw.on('message', (data, binary) => note(frames.push({ data, binary })));
  const closed = new Promise((resolve) => raw.on('close', resolve));
  const frame = (number) => within(new Promise((resolve) => {
    note = () => frames.length > number && resolve(frames[number]);
    note();
  }), `frame ${number}`);
  await within(new Promise((resolve) => raw.on('open', resolve)), 'a socket');
  raw.send('{"protocol":"messagepack","version":1}\x1e');
  assert.deepEqual(await frame(0), { data: Buffer.from('{}\x1e'), binary: true });
  return { raw, frame, closed };
}

test('the answer to a handshake for MessagePack is binary, and so is everything after it', options, async (t) => {
  const { raw, frame } = await socket(t);
  // [1, {}, "1", "Echo", [42]] with its length in front, cut in the middle.
  const call = Buffer.from('0c950180a131a44563686f912a', 'hex');
  raw.send(call.subarray(0, 5));
  raw.send(call.subarray(5));
  assert.deepEqual(await frame(1), { data: Buffer.from('08950380a131032a', 'hex').fill(7, 0, 1), binary: true });
});

for (const [name, hex] of [
  ['a length of more than two gigabytes', 'ffffffff0f'],
  ['a length that never ends', 'ffffffffffff'],
  ['something that is no array', '01c0'],
  ['an array that declares four thousand million items', '06ddffffffff01'],
  ['a text that declares four gigabytes', '0a960180c0dbffffffff41'],
  ['a reserved byte', '0595018041c1'],
  ['nesting without end', `ff01${'91'.repeat(255)}`],
  ['an invocation without a target', '06950180c0c090'],
  ['a message without a type', '0190'],
]) {
  test(`${name} ends the connection in MessagePack, and says so`, options, async (t) => {
    const { raw, frame, closed } = await socket(t);
    raw.send(Buffer.from(hex, 'hex'));
    const { data, binary } = await frame(1);
    assert.ok(binary);
    assert.match(data.toString('latin1'), /^.\x93\x07\xd9?.Connection closed with an error\.\xc3$/s);
    assert.equal(await within(closed, 'the end of the socket'), 1000);
  });
}

test('a message larger than the limit ends the connection in MessagePack', options, async (t) => {
  const { raw, frame } = await socket(t);
  raw.send(Buffer.concat([Buffer.from('808002', 'hex'), Buffer.alloc(32_768, 0xc0)]));
  assert.match((await frame(1)).data.toString('latin1'), /Connection closed with an error\./);
});
