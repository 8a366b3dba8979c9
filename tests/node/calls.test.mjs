// What a call answers: results, and errors with the exact texts that clients of ASP.NET Core know.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ChatClient, differsOn31, newRoom, within } from './helpers.mjs';

const stringOnly = differsOn31('the Echo of that server takes a string');

/** Calls, expects exactly this error, and expects the connection to be as good as before. */
async function fails(t, method, values, message) {
  const client = await ChatClient.start(t);
  await assert.rejects(client.invoke(method, ...values), { message });
  assert.equal(await client.invoke('Echo', 'still here'), 'still here');
  assert.deepEqual(client.closed.items, []);
}

const cannotBind = (method) => `Failed to invoke '${method}' due to an error on the server.`;
const unknown = (method) => `${cannotBind(method)} HubException: Method does not exist.`;

test('an unknown method is named in the error', (t) => fails(t, 'Nothing', [1, 2], unknown('Nothing')));
test('an unknown method is echoed as it was spelt', (t) => fails(t, 'nÖthing <&>', [], unknown('nÖthing <&>')));
for (const method of ['OnConnectedAsync', 'OnDisconnectedAsync', 'Dispose', 'ToString', 'methods', 'join_room', ' Echo', 'Echo ']) {
  test(`"${method}" is not a method of the hub`, (t) => fails(t, method, [], unknown(method)));
}

test('too few arguments are an error', (t) => fails(t, 'SendMessage', ['room', 'user'], cannotBind('SendMessage')));
test('too many arguments are an error', (t) => fails(t, 'JoinRoom', ['room', 'more'], cannotBind('JoinRoom')));
test('no arguments are an error', (t) => fails(t, 'Echo', [], cannotBind('Echo')));
test('the spelling of the caller is kept in an error', (t) => fails(t, 'jOINrOOM', [], cannotBind('jOINrOOM')));

for (const [what, value] of Object.entries({ 'a number': 5, 'a truth value': true, 'an object': { a: 1 }, 'a list': ['a'] })) {
  test(`${what} where a text belongs is an error`, (t) => fails(t, 'JoinRoom', [value], cannotBind('JoinRoom')));
}

test('null is not the name of a room', async (t) => {
  // .NET runs the method and that fails; a typed language refuses the argument. Both answer, and neither ends the connection.
  const client = await ChatClient.start(t);
  const refused = /^(An unexpected error occurred invoking 'JoinRoom' on the server|Failed to invoke 'JoinRoom' due to an error on the server)\.$/;
  await assert.rejects(client.invoke('JoinRoom', null), { message: refused });
  assert.equal(await client.invoke('Echo', 'still here'), 'still here');
});

test('a plain method invoked as a stream is an error', async (t) => {
  const client = await ChatClient.start(t);
  for (const [method, values] of [['Echo', ['x']], ['eCHO', ['x']], ['JoinRoom', [newRoom()]]]) {
    const ended = new Promise((complete, error) => {
      client.connection.stream(method, ...values).subscribe({ next: () => {}, complete, error });
    });
    await assert.rejects(within(ended, `the end of the stream ${method}`), {
      message: `The client attempted to invoke the non-streaming '${method}' method with a streaming invocation.`,
    });
  }
  assert.equal(await client.invoke('Echo', 'still here'), 'still here');
});

test('a failing call that nobody waits for is not answered, and the next one is', async (t) => {
  const client = await ChatClient.start(t);
  await client.connection.send('Nothing', 1);
  await client.connection.send('JoinRoom');
  await client.connection.send('JoinRoom', 5);
  assert.equal(await client.invoke('Echo', 'next'), 'next');
});

test('a method without a result answers null', async (t) => {
  const client = await ChatClient.start(t);
  const room = newRoom();
  assert.equal(await client.join(room), null);
  assert.equal(await client.say(room, 'ann', 'x'), null);
  assert.equal(await client.leave(room), null);
});

test('Echo gives a text back', async (t) => {
  const client = await ChatClient.start(t);
  for (const text of ['', 'x', 'null', '"quoted"', '🦀', 'x'.repeat(30_000)]) assert.equal(await client.invoke('Echo', text), text);
});

test('Echo of null is null', async (t) => {
  const client = await ChatClient.start(t);
  assert.equal(await client.invoke('Echo', null), null);
});

const values = {
  'truth values': [true, false],
  'integers': [0, 1, -1, 255, 65536, 2 ** 31, -(2 ** 31) - 1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
  'fractions': [0.1, -0.5, 1 / 3, Math.PI, 1e-7, 123456.789],
  'very large and very small numbers': [1e21, 1e100, Number.MAX_VALUE, Number.MIN_VALUE, -Number.MAX_VALUE],
  'empty lists and objects': [[], {}, [[]], [{}], { a: [] }],
  'lists of mixed kinds': [[1, 'two', 3.5, true, null, [4], { five: 6 }]],
  'nested objects': [{ a: { b: { c: { d: [1, { e: null }] } } } }],
  'keys that other languages treat specially': [{ '': 1, ' ': 2, 'a.b': 3, '$type': 4, '"': 5, 'é🦀': 6, type: 7, toString: 8 }],
};
for (const [what, list] of Object.entries(values)) {
  test(`Echo gives back ${what}`, { skip: stringOnly }, async (t) => {
    const client = await ChatClient.start(t);
    for (const value of list) assert.deepEqual(await client.invoke('Echo', value), value);
  });
}

test('Echo keeps the order and the case of keys', { skip: stringOnly }, async (t) => {
  const client = await ChatClient.start(t);
  const value = { zebra: 1, Apple: 2, apple: 3, mango: { z: 1, a: 2 }, _: 4 };
  assert.equal(JSON.stringify(await client.invoke('Echo', value)), JSON.stringify(value));
});

test('Echo takes a structure that is deep but not too deep', { skip: stringOnly }, async (t) => {
  const client = await ChatClient.start(t);
  let value = 'bottom';
  for (let depth = 0; depth < 50; depth++) value = depth % 2 ? [value] : { down: value };
  assert.deepEqual(await client.invoke('Echo', value), value);
});
