// The first record a client sends, and what it is answered.

import assert from 'node:assert/strict';
import test from 'node:test';
import { differsOn31 } from './helpers.mjs';
import { HANDSHAKE, RS, RawHub, completion, invocation, record } from './raw.mjs';

const UNREADABLE = 'An unexpected error occurred during connection handshake.';

/** A handshake record of exactly this many bytes, the separator included. */
function padded(bytes) {
  const empty = record({ protocol: 'json', version: 1, padding: '' });
  return record({ protocol: 'json', version: 1, padding: 'x'.repeat(bytes - empty.length) });
}

async function accepts(t, ...messages) {
  const hub = await RawHub.open(t, { handshake: false });
  hub.send(...messages);
  assert.deepEqual(await hub.record('the handshake response'), {});
  await hub.lives();
}

async function refuses(t, messages, error) {
  const hub = await RawHub.open(t, { handshake: false });
  hub.send(...messages);
  assert.deepEqual(await hub.record('the handshake response'), { error });
  await hub.close();
}

for (const [what, text] of Object.entries({
  'as clients write it': '{"protocol":"json","version":1}',
  'in any order': '{"version":1,"protocol":"json"}',
  'with the protocol in capitals': '{"protocol":"JSON","version":1}',
  'with properties nobody knows': '{"a":{"b":[1,{}]},"protocol":"json","version":1,"minorVersion":5,"type":1}',
  'with a property twice, of which the last counts': '{"protocol":"x","protocol":"json","version":1}',
  'with blanks around it': ' \r\n\t{ "protocol" : "json" , "version" : 1 } \n',
  'with something behind the object, which is not read': '{"protocol":"json","version":1} and more',
})) {
  test(`a handshake is accepted ${what}`, (t) => accepts(t, text + RS));
}

for (const version of [2, 0, -1, -(2 ** 31)]) {
  const skip = differsOn31('it accepts version 1 only');
  test(`protocol version ${version} is accepted`, { skip }, (t) => accepts(t, record({ protocol: 'json', version })));
}

test('a handshake may be split over several messages', (t) => accepts(t, '{"protocol":', '"json","version":1}', RS));
test('a handshake may come byte by byte', (t) => accepts(t, ...HANDSHAKE));
test('a handshake may come in a binary message', (t) => accepts(t, Buffer.from(HANDSHAKE)));
test('an empty message before the handshake is nothing', (t) => accepts(t, '', Buffer.alloc(0), HANDSHAKE));
test('a handshake of exactly the size limit is accepted', (t) => accepts(t, padded(32768)));

test('calls in the same message as the handshake are answered after it', async (t) => {
  const hub = await RawHub.open(t, { handshake: false });
  hub.send(HANDSHAKE + invocation('1', 'Echo', 'a') + invocation('2', 'Echo', 'b'));
  assert.deepEqual(await hub.records(3), [{}, completion('1', 'a'), completion('2', 'b')]);
});

test('the beginning of a call in the same message as the handshake is kept until the rest comes', async (t) => {
  const hub = await RawHub.open(t, { handshake: false });
  const call = invocation('1', 'Echo', 'a');
  hub.send(HANDSHAKE + call.slice(0, 20));
  assert.deepEqual(await hub.record(), {});
  hub.send(call.slice(20));
  assert.deepEqual(await hub.record(), completion('1', 'a'));
});

for (const protocol of ['nope', '', 'json ', 'jsonx']) {
  test(`the protocol "${protocol}" is refused by name`, (t) =>
    refuses(t, [record({ protocol, version: 1 })], `The protocol '${protocol}' is not supported.`));
}

for (const version of [3, 100, 2147483647]) {
  test(`protocol version ${version} is refused by number`, (t) =>
    refuses(t, [record({ protocol: 'json', version })], `The server does not support version ${version} of the 'json' protocol.`));
}

for (const [what, text] of Object.entries({
  'not JSON': 'garbage',
  'an empty record': '',
  'cut short': '{"protocol":"json","version":1',
  'a list': '[]',
  'null': 'null',
  'a text': '"json"',
  'an empty object': '{}',
  'without a version': '{"protocol":"json"}',
  'without a protocol': '{"version":1}',
  'with null as protocol': '{"protocol":null,"version":1}',
  'with a number as protocol': '{"protocol":1,"version":1}',
  'with null as version': '{"protocol":"json","version":null}',
  'with a text as version': '{"protocol":"json","version":"1"}',
  'with 1.0 as version': '{"protocol":"json","version":1.0}',
  'with 1.5 as version': '{"protocol":"json","version":1.5}',
  'with a version of more than 32 bits': '{"protocol":"json","version":99999999999}',
  'with its names in capitals': '{"Protocol":"json","Version":1}',
  'with a byte order mark before it': '\ufeff{"protocol":"json","version":1}',
  'a call': '{"type":1,"invocationId":"1","target":"Echo","arguments":["x"]}',
  'a ping': '{"type":6}',
})) {
  test(`a handshake that is ${what} is refused`, (t) => refuses(t, [text + RS], UNREADABLE));
}

test('a handshake that is not UTF-8, in a binary message, is refused', (t) =>
  refuses(t, [Buffer.from([0xff, 0xfe, 0x1e])], UNREADABLE));

for (const [what, text] of Object.entries({
  'a record over the size limit': padded(32769),
  'more bytes than the limit without an end': 'x'.repeat(32769),
  'far more bytes than the limit without an end': 'x'.repeat(200_000),
})) {
  test(`a handshake of ${what} is cancelled`, (t) => refuses(t, [text], 'Handshake was canceled.'));
}

test('a second handshake ends the connection', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(HANDSHAKE);
  await hub.connectionError();
});

test('a second handshake in the same message ends the connection after the answer to the first', async (t) => {
  const hub = await RawHub.open(t, { handshake: false });
  hub.send(HANDSHAKE + HANDSHAKE);
  assert.deepEqual(await hub.record(), {});
  await hub.connectionError();
});

test('garbage in the same message as the handshake ends the connection after the answer', async (t) => {
  const hub = await RawHub.open(t, { handshake: false });
  hub.send(`${HANDSHAKE}garbage${RS}`);
  assert.deepEqual(await hub.record(), {});
  await hub.connectionError();
});

for (const [when, before] of Object.entries({ 'before the handshake': [], 'in the middle of the handshake': ['{"proto'] })) {
  test(`a client that closes ${when} is answered with a close and nothing else`, async (t) => {
    const hub = await RawHub.open(t, { handshake: false });
    hub.send(...before);
    hub.socket.close(1000);
    await hub.close();
  });
}
