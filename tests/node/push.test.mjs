// Workers of the task centre without SignalR, as a stock client of WebSockets makes them; and what is not taken of what such clients offer.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { within } from './helpers.mjs';
import { upgrade } from './raw.mjs';
import { Server, startsHubcast } from './server.mjs';
import { open } from './sockets.mjs';

/** A worker that has said who it is, and was heard. */
async function join(t, origin, who, query = '') {
  const worker = await open(t, `${origin}/push${query}`);
  worker.socket.send(who);
  const pong = once(worker.socket, 'pong');
  worker.socket.ping();
  await within(pong, 'a pong');
  const task = async () => JSON.parse(await worker.next());
  const answer = (what) => worker.socket.send(JSON.stringify(what));
  return { ...worker, task, answer };
}

/** Puts a task into the queue, and gives its id. */
async function submit(origin, TaskName, TaskType) {
  const answer = await fetch(`${origin}/tasks`, { method: 'POST', body: JSON.stringify({ TaskName, TaskType }) });
  assert.equal(answer.status, 202);
  return (await answer.json()).id;
}

test('tasks come as texts, and the last worker of an id gets them', { skip: startsHubcast }, async (t) => {
  const { origin } = await Server.start(t);
  const first = await join(t, origin, 'a');
  await submit(origin, 'Demo', 1);
  assert.equal(await first.next(), 'Demo');
  const long = 'ü世🦀'.repeat(1000);
  await submit(origin, long, 2);
  assert.equal(await first.next(), `Special-${long}`);
  const second = await join(t, origin, '{"id": "a", "types": [1]}');
  assert.deepEqual(await first.goodbye(), { code: 1011, reason: 'A new client with same id was connected!' });
  await submit(origin, 'for the second', 1);
  assert.equal(await second.next(), 'for the second');
});

test('a worker answers for each task by its id, and one that goes leaves its task to another', { skip: startsHubcast }, async (t) => {
  const { origin } = await Server.start(t, { args: ['--task-retry', '1'] });
  const worker = await join(t, origin, '{"id": "a", "capacity": 2}', '?ack=done');
  const ids = [await submit(origin, 'one', 1), await submit(origin, 'two', 2)];
  assert.deepEqual([await worker.task(), await worker.task()], [
    { id: ids[0], task: 'one' },
    { id: ids[1], task: 'Special-two' },
  ]);
  worker.answer({ done: ids[0] });
  worker.answer({ done: ids[0] });
  assert.deepEqual(await worker.task(), { error: 'You have no task of that id.', id: ids[0] });
  worker.answer({ refuse: ids[1], reason: 'not now' });
  assert.equal((await worker.task()).id, ids[1], 'it comes again');
  worker.socket.terminate();
  const other = await join(t, origin, 'b', '?ack=done');
  assert.equal((await other.task()).id, ids[1]);
  // In pieces, which is nothing special.
  other.socket.send('{"done": ', { fin: false });
  other.socket.send(`"${ids[1]}"}`, { fin: true });
  const last = await submit(origin, 'last', 1);
  assert.deepEqual(await other.task(), { id: last, task: 'last' });
});

test('what no worker says ends the connection with the reason, and no other one', { skip: startsHubcast }, async (t) => {
  const { origin } = await Server.start(t);
  const bystander = await join(t, origin, 'bystander');
  for (const [said, code, reason] of [
    [Buffer.from([1]), 1003, 'Only texts are understood.'],
    [' ', 1008, 'A worker needs an id.'],
    ['{"id": "a", "capacity": 0}', 1008, 'The capacity of a worker is 1 to 1000.'],
    ['x'.repeat(1024 * 1024 + 1), 1009, ''],
  ]) {
    const stranger = await open(t, `${origin}/push`);
    stranger.socket.send(said);
    assert.deepEqual(await stranger.goodbye(), { code, reason });
  }
  await submit(origin, 'Demo', 1);
  assert.equal(await bystander.next(), 'Demo');
});

test('who may not be a worker is told before there is a WebSocket', { skip: startsHubcast }, async (t) => {
  const { hub } = await Server.start(t);
  for (const [query, headers, status, text] of [
    ['', { Origin: 'https://evil.example' }, 403, 'This origin is not allowed.'],
    ['?ack=yes', {}, 400, "The parameter 'ack' is 'done', or is left out."],
    ['?ack', {}, 400, "The parameter 'ack' is 'done', or is left out."],
  ]) {
    const answer = await upgrade('', headers, { hub, path: `/push${query}` });
    assert.deepEqual([answer.status, answer.body], [status, text]);
  }
});

test('extensions and subprotocols are not taken, and pages of the server itself are let in', { skip: startsHubcast }, async (t) => {
  const { origin, hub } = await Server.start(t);
  for (const path of ['/ws', '/echo', '/api/chat?nickname=Node', '/push']) {
    const { socket, end } = await open(t, origin + path, { perMessageDeflate: { threshold: 0 }, origin });
    assert.equal(socket.extensions, '');
    socket.close(4000);
    assert.equal(await end(), 4000, path);
    const offers = { 'Sec-WebSocket-Protocol': 'chat, graphql-ws', 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits, x-unknown' };
    const answer = await upgrade('', offers, { hub, path });
    assert.equal(answer.status, 101, path);
    for (const header of ['sec-websocket-protocol', 'sec-websocket-extensions']) assert.equal(answer.headers[header], undefined);
  }
});

test('the longest messages come back, whole or in pieces', { skip: startsHubcast }, async (t) => {
  const { origin } = await Server.start(t);
  const { socket, say, next } = await open(t, `${origin}/echo?raw=1`, { perMessageDeflate: { threshold: 0 } });
  const longest = 1024 * 1024;
  assert.equal(await say('x'.repeat(longest)), 'x'.repeat(longest));
  const bytes = Buffer.alloc(longest, 0xff);
  assert.ok(bytes.equals(await say(bytes)));
  for (let piece = 0; piece < 16; piece += 1) socket.send('y'.repeat(longest / 16), { fin: piece === 15 });
  assert.equal(await next(), 'y'.repeat(longest));
});
