// Order: of one sender's messages, of a room, and of a call's own messages against its completion.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ChatClient, differsOn31, joined, newRoom, within } from './helpers.mjs';

const COUNT = 1000;
const numbers = Array.from({ length: COUNT }, (_, i) => ['ann', String(i)]);

async function pair(t) {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  await ann.join(room);
  await bob.join(room);
  await ann.inbox.first(2);
  return { room, ann, bob };
}

test('a thousand awaited messages arrive in order at every member', async (t) => {
  const { room, ann, bob } = await pair(t);
  for (const [user, text] of numbers) await ann.say(room, user, text);
  assert.deepEqual((await bob.inbox.first(COUNT + 1)).slice(1), numbers);
  assert.deepEqual((await ann.inbox.first(COUNT + 2)).slice(2), numbers);
});

test('a thousand messages sent without waiting arrive in order at every member', async (t) => {
  const { room, ann, bob } = await pair(t);
  const sends = numbers.map(([user, text]) => ann.connection.send('SendMessage', room, user, text));
  await within(Promise.all(sends), 'handing over a thousand messages');
  assert.deepEqual((await bob.inbox.first(COUNT + 1)).slice(1), numbers);
  assert.deepEqual((await ann.inbox.first(COUNT + 2)).slice(2), numbers);
});

test('a thousand calls at once complete, each with its own result, in the order they were made', async (t) => {
  const ann = await ChatClient.start(t);
  const finished = [];
  const calls = numbers.map(async ([, text]) => finished.push(await ann.connection.invoke('Echo', text)));
  await within(Promise.all(calls), 'a thousand completions');
  assert.deepEqual(finished, numbers.map(([, text]) => text));
});

const noCommonOrder = differsOn31('that server promises no order between different senders');

test('all members of a room see the messages of several senders in one order', { skip: noCommonOrder }, async (t) => {
  const room = newRoom();
  const clients = await Promise.all(Array.from({ length: 4 }, () => ChatClient.start(t)));
  for (const client of clients) await client.join(room);
  // Everybody has seen the last arrival, so from here on all inboxes have the same past.
  const last = joined(clients.at(-1).id, room)[1];
  const offsets = [];
  for (const { inbox } of clients) {
    await inbox.until((items) => items.some(([, text]) => text === last), 'the last arrival');
    offsets.push(inbox.items.length);
  }
  const each = 250;
  const sends = clients.flatMap((client, who) =>
    Array.from({ length: each }, (_, i) => client.connection.send('SendMessage', room, `user ${who}`, String(i))));
  await within(Promise.all(sends), 'handing over the messages');

  const total = each * clients.length;
  const seen = [];
  for (const [who, { inbox }] of clients.entries()) {
    seen.push((await inbox.first(offsets[who] + total, `all messages at client ${who}`)).slice(offsets[who]));
  }
  for (const other of seen.slice(1)) assert.deepEqual(other, seen[0]);
  for (const who of clients.keys()) {
    const own = seen[0].filter(([user]) => user === `user ${who}`).map(([, text]) => text);
    assert.deepEqual(own, Array.from({ length: each }, (_, i) => String(i)), `the order of sender ${who}`);
  }
});

test('a call completes after its own messages have reached the caller', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  await ann.join(room);
  assert.deepEqual(ann.inbox.items, [joined(ann.id, room)]);
  for (let i = 0; i < 100; i++) {
    await ann.say(room, 'ann', String(i));
    assert.deepEqual(ann.inbox.items.at(-1), ['ann', String(i)]);
  }
});
