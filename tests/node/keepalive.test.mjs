// What happens when nothing happens. These take as long as the server's time limits, side by side.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ChatClient, differsOn31 } from './helpers.mjs';
import { CONNECTION_ERROR, RS, RawHub, record } from './raw.mjs';

const PING = record({ type: 6 });

/** Waits for what `wait` returns and checks that it took between these many seconds. */
async function takes(least, most, wait) {
  const begin = Date.now();
  const value = await wait(most * 1000 + 5000);
  const seconds = (Date.now() - begin) / 1000;
  assert.ok(seconds >= least && seconds <= most, `it took ${seconds} s instead of ${least} to ${most}`);
  return value;
}

describe('silence', { concurrency: true }, () => {
  for (const [what, begin] of Object.entries({ 'says nothing': [], 'stops in the middle of its handshake': ['{"proto'] })) {
    test(`a client that ${what} is cancelled after 15 s`, async (t) => {
      const hub = await RawHub.open(t, { handshake: false });
      hub.send(...begin);
      const answer = await takes(14, 18, (ms) => hub.record('the answer', ms));
      assert.deepEqual(answer, { error: 'Handshake was canceled.' });
      await hub.close();
    });
  }

  test('an idle connection is pinged every 15 s, and not before', async (t) => {
    const hub = await RawHub.open(t);
    for (let i = 0; i < 2; i++) assert.deepEqual(await takes(13, 18, (ms) => hub.record('a ping', ms)), { type: 6 });
  });

  test('a ping is not answered', async (t) => {
    const hub = await RawHub.open(t);
    hub.send(PING, PING);
    await hub.lives();
  });

  test('a client that has pinged once and then falls silent is closed after 30 s, one that never pings is not', async (t) => {
    const never = await RawHub.open(t);
    const once = await RawHub.open(t);
    once.send(PING);
    const last = await takes(29, 34, async (ms) => {
      assert.deepEqual(await once.record('the first ping', ms), { type: 6 });
      let item;
      do item = await once.next('the end', ms); while (item.record?.type === 6);
      return item;
    });
    if (process.env.PEER === 'aspnet31') {
      assert.deepEqual(last, { close: 1000, reason: '' }); // it gives no reason
    } else {
      assert.deepEqual(last.record, CONNECTION_ERROR);
      await once.close();
    }
    never.send(`${JSON.stringify({ type: 1, invocationId: '1', target: 'Echo', arguments: ['x'] })}${RS}`);
    let answer;
    do answer = await never.record('the answer'); while (answer.type === 6);
    assert.deepEqual(answer, { type: 3, invocationId: '1', result: 'x' });
  });

  test('a stock client and an idle server keep each other alive', async (t) => {
    // The client gives up after 17.5 s without a message, the server after 30 s; the second ping is later than both.
    const client = await ChatClient.start(t, { build: (builder) => builder.withServerTimeout(17_500).withKeepAliveInterval(5_000) });
    const witness = await RawHub.open(t);
    for (let i = 0; i < 2; i++) assert.deepEqual(await witness.record('a ping', 20_000), { type: 6 });
    assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    assert.deepEqual(client.closed.items, []);
  });
});
