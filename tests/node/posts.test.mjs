// What clients send beside Server-Sent Events and Long Polling: POSTs, which are the same for both.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { within } from './helpers.mjs';
import { HANDSHAKE, completion, invocation, request } from './raw.mjs';
import { Events, Polling, SlowPost, check } from './transports.mjs';

const echo = (id, text = id) => invocation(id, 'Echo', text);
const numbered = (count) => Array.from({ length: count }, (_, i) => String(i));

for (const Transport of [Events, Polling]) {
  describe(`beside ${Transport.name}`, () => {
    test('a POST is answered with 200 and nothing', async (t) => {
      const connection = await Transport.open(t);
      const answer = await connection.post(echo('1'));
      check(answer, [200, '']);
      assert.match(answer.headers['content-type'], /^text\/plain/);
      assert.equal(answer.headers['content-length'], '0');
    });

    test('an empty POST is nothing', async (t) => {
      const connection = await Transport.open(t, { handshake: false });
      await connection.send('', HANDSHAKE, '');
      assert.deepEqual(await connection.record(), {});
      await connection.send('');
      await connection.lives();
    });

    test('a message may be split over POSTs, even inside a character', async (t) => {
      const connection = await Transport.open(t, { handshake: false });
      await connection.send(HANDSHAKE.slice(0, 5), HANDSHAKE.slice(5));
      assert.deepEqual(await connection.record(), {});
      const bytes = Buffer.from(echo('1', '🦀é') + echo('2', 'é'));
      for (let at = 0; at < bytes.length; at += 7) await connection.send(bytes.subarray(at, at + 7));
      assert.deepEqual(await connection.records(2), [completion('1', '🦀é'), completion('2', 'é')]);
    });

    test('a POST that comes slowly is not torn apart by another', async (t) => {
      const connection = await Transport.open(t);
      const slow = new SlowPost(connection.id);
      const message = echo('slow', 'é'.repeat(1000));
      await slow.write(message.slice(0, 500));
      const quick = connection.send(echo('quick')); // which of the two is first is not said
      await slow.write(message.slice(500, 600));
      check(await slow.end(message.slice(600)), [200, '']);
      await quick;
      const answers = (await connection.records(2)).sort((a, b) => (a.invocationId < b.invocationId ? -1 : 1));
      assert.deepEqual(answers, [completion('quick', 'quick'), completion('slow', 'é'.repeat(1000))]);
      await connection.lives();
    });

    test('POSTs made at the same time are taken one after the other, each of them whole', async (t) => {
      const connection = await Transport.open(t);
      const text = 'x'.repeat(2000);
      const posts = numbered(50).map((id) => connection.send(echo(`${id}a`, text) + echo(`${id}b`, text)));
      const answers = await connection.records(100);
      await within(Promise.all(posts), 'the answers to all POSTs');
      // In any order, but the two messages of a POST are neighbours.
      const seen = new Set();
      for (let i = 0; i < answers.length; i += 2) {
        const id = answers[i].invocationId.slice(0, -1);
        assert.deepEqual(answers.slice(i, i + 2), [completion(`${id}a`, text), completion(`${id}b`, text)]);
        seen.add(id);
      }
      assert.equal(seen.size, 50);
    });

    test('POSTs of which each waits for the one before are processed in that order', async (t) => {
      const connection = await Transport.open(t);
      const sent = (async () => {
        for (const id of numbered(200)) await connection.send(echo(id));
      })();
      assert.deepEqual(await connection.records(200), numbered(200).map((id) => completion(id, id)));
      await sent;
    });

    test('the body of a POST may come in pieces', async (t) => {
      const connection = await Transport.open(t);
      const post = new SlowPost(connection.id);
      for (const letter of echo('1')) await post.write(letter);
      check(await post.end(echo('2')), [200, '']);
      assert.deepEqual(await connection.records(2), [completion('1', '1'), completion('2', '2')]);
    });

    test('the type of a POST\'s body is not looked at', async (t) => {
      const connection = await Transport.open(t);
      for (const type of ['text/plain;charset=UTF-8', 'application/octet-stream', 'application/json', 'nonsense']) {
        check(await request('POST', connection.id, { body: echo(type), headers: { 'Content-Type': type } }), [200, '']);
        assert.deepEqual(await connection.record(), completion(type, type));
      }
    });
  });
}
