// Rooms, as users of the stock client see them.
//
// That something was NOT delivered is shown without waiting: a server keeps the order of what it sends to one connection,
// so when a later message has arrived, whatever was sent before it is either there or never coming.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ChatClient, joined, left, newRoom } from './helpers.mjs';

test('joining a room tells everybody in it, the newcomer included, who came', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  await ann.join(room);
  await bob.join(room);
  assert.deepEqual(await ann.inbox.first(2), [joined(ann.id, room), joined(bob.id, room)]);
  assert.deepEqual(await bob.inbox.first(1), [joined(bob.id, room)]);
});

test('leaving a room tells those who stay, and the one who left hears no more of it', async (t) => {
  const [room, elsewhere] = [newRoom(), newRoom()];
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  await ann.join(room);
  await bob.join(room);
  await ann.leave(room);
  await bob.say(room, 'bob', 'is she gone?');
  assert.deepEqual((await bob.inbox.first(3)).slice(1), [left(ann.id, room), ['bob', 'is she gone?']]);

  await ann.join(elsewhere);
  assert.deepEqual(await ann.inbox.first(3), [joined(ann.id, room), joined(bob.id, room), joined(ann.id, elsewhere)]);
});

test('a message reaches every member once, its sender included, and nobody else', async (t) => {
  const [room, elsewhere] = [newRoom(), newRoom()];
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  const eve = await ChatClient.start(t);
  await ann.join(room);
  await bob.join(room);
  await eve.join(elsewhere);
  await ann.say(room, 'ann', 'hello');
  await bob.say(room, 'bob', 'hi');
  await eve.say(elsewhere, 'eve', 'anybody here?');
  assert.deepEqual((await ann.inbox.first(4)).slice(2), [['ann', 'hello'], ['bob', 'hi']]);
  assert.deepEqual((await bob.inbox.first(3)).slice(1), [['ann', 'hello'], ['bob', 'hi']]);
  assert.deepEqual(await eve.inbox.first(2), [joined(eve.id, elsewhere), ['eve', 'anybody here?']]);
});

test('somebody outside a room may send into it and gets no copy', async (t) => {
  const [room, elsewhere] = [newRoom(), newRoom()];
  const member = await ChatClient.start(t);
  const visitor = await ChatClient.start(t);
  await member.join(room);
  await visitor.say(room, 'visitor', 'special offer');
  assert.deepEqual((await member.inbox.first(2))[1], ['visitor', 'special offer']);
  await visitor.join(elsewhere);
  assert.deepEqual(await visitor.inbox.first(1), [joined(visitor.id, elsewhere)]);
});

test('sending into a room that nobody is in succeeds', async (t) => {
  const ann = await ChatClient.start(t);
  assert.equal(await ann.say(newRoom(), 'ann', 'hello?'), null);
});

test('leaving a room never joined succeeds, and its members are told', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  assert.equal(await bob.leave(newRoom()), null);
  await ann.join(room);
  assert.equal(await bob.leave(room), null);
  assert.deepEqual((await ann.inbox.first(2))[1], left(bob.id, room));
});

test('joining twice is announced twice and still delivers each message once', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  await ann.join(room);
  await ann.join(room);
  await ann.say(room, 'ann', 'one');
  await ann.say(room, 'ann', 'two');
  assert.deepEqual(await ann.inbox.first(4), [joined(ann.id, room), joined(ann.id, room), ['ann', 'one'], ['ann', 'two']]);

  // One leave ends it, however often one joined.
  await ann.leave(room);
  await ann.say(room, 'ann', 'three');
  await ann.join(room);
  assert.deepEqual((await ann.inbox.first(5)).slice(4), [joined(ann.id, room)]);
});

test('one connection can be in two rooms, and leaving one keeps the other', async (t) => {
  const [tea, coffee] = [newRoom(), newRoom()];
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  await ann.join(tea);
  await ann.join(coffee);
  await bob.say(tea, 'bob', 'tea');
  await bob.say(coffee, 'bob', 'coffee');
  await ann.leave(tea);
  await bob.say(tea, 'bob', 'more tea');
  await bob.say(coffee, 'bob', 'more coffee');
  assert.deepEqual((await ann.inbox.first(5)).slice(2), [['bob', 'tea'], ['bob', 'coffee'], ['bob', 'more coffee']]);
});

test('room names are case-sensitive', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  await ann.join(room);
  await ann.say(room.toUpperCase(), 'ann', 'LOUD');
  await ann.say(room, 'ann', 'quiet');
  assert.deepEqual(await ann.inbox.first(2), [joined(ann.id, room), ['ann', 'quiet']]);
});

test('method names are not case-sensitive', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  await ann.invoke('joinroom', room);
  await ann.invoke('SENDMESSAGE', room, 'ann', 'hello');
  await ann.invoke('lEAVErOOM', room);
  assert.deepEqual(await ann.inbox.first(2), [joined(ann.id, room), ['ann', 'hello']]);
});

const roomNames = {
  'the empty name': '',
  'blanks': '  ',
  'quotes, angles and backslashes': `<b>"it's" \\ & more</b>`,
  'an emoji, Arabic and Chinese': '🦀 غرفة 房间',
  'a thousand characters': 'n'.repeat(1000),
  'something that looks like a channel pattern': 'a*[b]?:{c}',
  'a line break and a NUL': 'line\nbreak\0nul',
};
for (const [what, name] of Object.entries(roomNames)) {
  test(`a room's name may be ${what}`, async (t) => {
    const ann = await ChatClient.start(t);
    const bob = await ChatClient.start(t);
    await ann.join(name);
    await bob.say(name, 'bob', 'found it');
    assert.deepEqual(await ann.inbox.first(2), [joined(ann.id, name), ['bob', 'found it']]);
  });
}

test('after stop and start the same client has a new id and is in no room', async (t) => {
  const [room, elsewhere] = [newRoom(), newRoom()];
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  await ann.join(room);
  const before = ann.id;
  await ann.stop();
  await ann.start();
  assert.notEqual(ann.id, before);
  await bob.say(room, 'bob', 'still there?');
  await ann.join(elsewhere);
  assert.deepEqual(await ann.inbox.first(2), [joined(before, room), joined(ann.id, elsewhere)]);
});
