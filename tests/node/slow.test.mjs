// A client that stops reading must not cost the others anything, and the server only a bounded amount of memory.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test from 'node:test';
import { newRoom } from './helpers.mjs';
import { RawHub, completion, invocation } from './raw.mjs';
import { Server, startsHubcast } from './server.mjs';

/** The resident memory of a process in MiB (Linux). */
async function resident(pid) {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
}

test('a member that stops reading is closed, and the room goes on undisturbed', { skip: startsHubcast }, async (t) => {
  const room = newRoom();
  const server = await Server.start(t);
  const open = () => RawHub.open(t, { url: server.hub });
  const [sender, reader, deaf] = [await open(), await open(), await open()];
  for (const member of [reader, deaf]) {
    member.send(invocation('join', 'JoinRoom', room));
    await member.records(2);
  }
  await reader.record('the notice that the other joined');

  deaf.socket.pause();
  const before = await resident(server.process.pid);
  // 64 MiB, which is more than the kernel's buffers and any sensible queue hold, one message at a time:
  // a sender that had to wait for the deaf one would not get through.
  const text = 'x'.repeat(30 * 1024);
  const count = Math.ceil((64 * 1024 * 1024) / text.length);
  for (let i = 0; i < count; i++) {
    sender.send(invocation(String(i), 'SendMessage', room, 'sender', `${i} ${text}`));
    assert.deepEqual(await sender.record(), completion(String(i), null));
    const message = await reader.record(`message ${i}`);
    assert.equal(message.arguments[1].split(' ')[0], String(i));
  }
  const grown = (await resident(server.process.pid)) - before;
  assert.ok(grown < 32, `the server grew by ${grown.toFixed(1)} MiB`);

  // The deaf one reads on: whole messages from the beginning, in order, and then the end, long before the last message.
  deaf.socket.resume();
  let got = 0;
  let item;
  for (;;) {
    item = await deaf.next('the end of the slow connection');
    if (item.record?.target !== 'ReceiveMessage') break;
    assert.equal(item.record.arguments[1].split(' ')[0], String(got++));
  }
  assert.ok(got < count, 'nothing was dropped, so nothing was closed');
  if ('record' in item) {
    assert.equal(item.record.type, 7);
    item = await deaf.next('the end of the socket');
  }
  assert.ok('close' in item, JSON.stringify(item).slice(0, 200));

  sender.send(invocation('last', 'SendMessage', room, 'sender', 'still here'));
  assert.deepEqual((await reader.record()).arguments, ['sender', 'still here']);
});
