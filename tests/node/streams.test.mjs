// Streams in depth, in both directions: many at once, cut off, failing, misused.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Subject } from '@microsoft/signalr';
import { Log, differsOn31, within } from './helpers.mjs';
import { RawHub, completion, failure, invocation, record } from './raw.mjs';
import { TestClient, WAYS, testHub, unique } from './testhub.mjs';
import { eventually } from './transports.mjs';

/** What a failed upload makes of a method that passes the failure on: newer versions show the client its own text. */
const FAILED_UPLOAD = (sentence, text) => (differsOn31('3.1 hides it') ? sentence : `${sentence} HubException: ${text}`);

const numbers = (count) => Array.from({ length: count }, (_, i) => i);
const INVOKING = (method) => `An unexpected error occurred invoking '${method}' on the server.`;
const MIDWAY = 'An error occurred on the server while streaming results.';

for (const way of WAYS) {
  describe(`streams over ${way.name}`, { skip: way.skip }, () => {
    const start = (t, more) => TestClient.start(t, { ...way, ...more });

    test('many run at once, each in its order, and calls beside them', async (t) => {
      const client = await start(t);
      const streams = numbers(8).map((i) => client.stream('Counter', 60, i % 3));
      const calls = numbers(20).map((i) => client.invoke('Echo', String(i)));
      assert.deepEqual(await Promise.all(calls), numbers(20).map(String));
      for (const stream of streams) assert.deepEqual(await stream.all(), numbers(60));
    });

    test('one that runs does not hold up calls, and calls do not hold up its end', async (t) => {
      const client = await start(t);
      const [endless, counter] = [client.stream('InfiniteStream'), client.stream('Counter', 3, 1)];
      for (const i of numbers(5)) assert.equal(await client.invoke('Add', i, 1), i + 1);
      assert.deepEqual(await counter.all(), [0, 1, 2]);
      assert.deepEqual(endless.items.items, []);
    });

    test('one is cancelled, and its neighbours go on', async (t) => {
      const client = await start(t);
      const [cut, whole] = [client.stream('Counter', 1_000_000, 1), client.stream('Counter', 100, 1)];
      await cut.items.first(3);
      cut.cancel();
      assert.deepEqual(await whole.all(), numbers(100));
      assert.deepEqual(cut.items.items, numbers(cut.items.items.length));
      assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });

    test('ten that never end are all cancelled', async (t) => {
      const client = await start(t);
      const cancelled = client.calls('StreamCanceled');
      const streams = numbers(10).map(() => client.stream('InfiniteStream'));
      await client.invoke('Echo', 'they have begun');
      for (const stream of streams) stream.cancel();
      assert.deepEqual(await cancelled.first(10), Array(10).fill([]));
    });

    test('one fails midway, and its neighbours go on', async (t) => {
      const client = await start(t);
      const good = client.stream('Counter', 50, 1);
      const [hidden, shown] = [client.stream('StreamThrowMidway', 20, 'secret'), client.stream('StreamHubExceptionMidway', 20, 'shown é')];
      await assert.rejects(hidden.all(), { message: MIDWAY });
      await assert.rejects(shown.all(), { message: `${MIDWAY} HubException: shown é` });
      assert.deepEqual([hidden.items.items, shown.items.items], [numbers(20), numbers(20)]);
      assert.deepEqual(await good.all(), numbers(50));
    });

    test('with no items at all one may still fail', async (t) => {
      const client = await start(t);
      const stream = client.stream('StreamHubExceptionMidway', 0, 'at once');
      await assert.rejects(stream.all(), { message: `${MIDWAY} HubException: at once` });
      assert.deepEqual(stream.items.items, []);
    });

    test('a thousand items are uploaded in order', async (t) => {
      const client = await start(t);
      const subject = new Subject();
      const sum = client.invoke('StreamingSum', subject);
      for (const i of numbers(1000)) subject.next(i);
      subject.complete();
      assert.equal(await sum, 499_500);
      const text = new Subject();
      const joined = client.invoke('StreamingConcat', text);
      for (const i of numbers(300)) text.next(`${i},`);
      text.complete();
      assert.equal(await joined, numbers(300).map((i) => `${i},`).join(''));
    });

    test('several uploads run at once and do not mix', async (t) => {
      const client = await start(t);
      const subjects = numbers(6).map(() => new Subject());
      const calls = subjects.map((subject, i) => client.invoke('PrefixedConcat', `<${i}:`, subject, '>'));
      for (const round of numbers(20)) for (const [i, subject] of subjects.entries()) subject.next(`${i}.${round} `);
      for (const subject of subjects.toReversed()) subject.complete();
      const expected = subjects.map((_, i) => `<${i}:${numbers(20).map((round) => `${i}.${round} `).join('')}>`);
      assert.deepEqual(await Promise.all(calls), expected);
    });

    test('an upload that fails ends its call, and says why', async (t) => {
      const client = await start(t);
      const subject = new Subject();
      const call = client.invoke('StreamingConcat', subject);
      subject.next('a');
      subject.error(new Error('broken at the source'));
      await assert.rejects(call, { message: FAILED_UPLOAD(INVOKING('StreamingConcat'), 'broken at the source') });
      assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });

    test('an upload that fails is explained where errors are detailed', async (t) => {
      const client = await start(t, { url: testHub('testHubDetailed') });
      const subject = new Subject();
      const call = client.invoke('StreamingConcat', subject);
      subject.error(new Error('broken at the source'));
      await assert.rejects(call, /^Error: An unexpected error occurred invoking 'StreamingConcat' on the server\. \w+: .*broken at the source$/);
    });

    test('a stream answers each item of an upload before the next is sent', async (t) => {
      const client = await start(t);
      const subject = new Subject();
      const echo = client.stream('StreamEcho', subject);
      for (const i of numbers(20)) {
        subject.next(String(i));
        assert.deepEqual((await echo.items.first(i + 1)).at(-1), `echo:${i}`);
      }
      subject.complete();
      assert.equal((await echo.all()).length, 20);
    });

    test('an upload ends its stream with an error when it fails', async (t) => {
      const client = await start(t);
      const subject = new Subject();
      const echo = client.stream('StreamEcho', subject);
      subject.next('a');
      await echo.items.first(1);
      subject.error(new Error('broken at the source'));
      await assert.rejects(echo.all(), { message: FAILED_UPLOAD(MIDWAY, 'broken at the source') });
      assert.deepEqual(echo.items.items, ['echo:a']);
    });

    test('a client may leave in the middle of streams in both directions', async (t) => {
      const [watcher, client] = [await start(t), await start(t)];
      const gone = watcher.calls('Disconnected');
      await watcher.invoke('WatchDisconnects');
      const { id } = client;
      const endless = client.stream('InfiniteStream');
      client.connection.invoke('StreamingConcat', new Subject()).catch(() => {});
      assert.equal(await client.invoke('Echo', 'begun'), 'begun');
      await client.stop();
      await gone.until((items) => items.find(([who]) => who === id), 'the end of the connection');
      await assert.rejects(endless.all());
      assert.equal(await watcher.invoke('Echo', 'still here'), 'still here');
    });
  });
}

// ---- What no stock client does.

const stream = (invocationId, target, ...values) => record({ type: 4, invocationId, target, arguments: values });
const upload = (type, invocationId, target, streamIds, ...values) => record({ type, invocationId, target, arguments: values, streamIds });
const item = (invocationId, value) => record({ type: 2, invocationId, item: value });
const end = (invocationId, error) => record({ type: 3, invocationId, error });
const open = (t, path) => RawHub.open(t, { url: testHub(path) });

/** What is sent, the records that answer it, and then the connection lives. */
const exchanges = {
  'two uploads of one call are told apart': [[upload(1, '1', 'TwoStreams', ['u', 'v']), item('v', 'c'), item('u', 'a'), end('v'), item('u', 'b'), end('u')], [completion('1', 'ab|c')]],
  'the items of a stream are counted from its call on': [[item('u', 'early'), upload(1, '1', 'StreamingConcat', ['u']), item('u', 'a'), end('u')], [completion('1', 'a')]],
  'a result at the end of an upload is ignored': [[upload(1, '1', 'StreamingConcat', ['u']), item('u', 'a'), record({ type: 3, invocationId: 'u', result: ['x'] })], [completion('1', 'a')]],
  'items behind the end of an upload are ignored': [[upload(1, '1', 'StreamingConcat', ['u']), end('u'), item('u', 'b'), end('u')], [completion('1', '')]],
  'items and ends of streams that there are not are ignored': [[item('no', 1), end('no'), end('no', 'error'), record({ type: 5, invocationId: 'no' })], []],
  'an item that does not fit ends the upload with an error': [[upload(1, '1', 'StreamingSum', ['u']), item('u', 1), item('u', 'x'), item('u', 2)], [failure('1', FAILED_UPLOAD(INVOKING('StreamingSum'), 'Failed to bind Stream message.'))]],
  'an upload without an answer does its work': [[record({ type: 1, target: 'UploadThenNotify', arguments: [], streamIds: ['u'] }), item('u', 'a'), end('u')], [{ type: 1, target: 'UploadDone', arguments: [1] }]],
};
for (const [what, [sent, expected]] of Object.entries(exchanges)) {
  test(what, async (t) => {
    const hub = await open(t);
    hub.send(...sent);
    assert.deepEqual(await hub.records(expected.length), expected);
    await hub.lives();
  });
}

/** Misuse, and the exact text of the one completion that answers it. */
const HUB = (method, text) => `${INVOKING(method)} HubException: ${text}`;
const misuse = {
  'too few streams': [upload(1, '1', 'TwoStreams', ['u']), HUB('TwoStreams', 'Client sent 1 stream(s), Hub method expects 2.')],
  'too many streams': [upload(1, '1', 'StreamingConcat', ['u', 'v', 'w']), HUB('StreamingConcat', 'Client sent 3 stream(s), Hub method expects 1.')],
  'no streams': [invocation('1', 'StreamingConcat'), HUB('StreamingConcat', 'Client sent 0 stream(s), Hub method expects 1.')],
  'a stream for a method without': [upload(1, '1', 'Add', ['u'], 1, 2), HUB('Add', 'Client sent 1 stream(s), Hub method expects 0.')],
  'a stream for a stream without': [upload(4, '1', 'Stream', ['u']), HUB('Stream', 'Client sent 1 stream(s), Hub method expects 0.')],
  'a plain method as a stream': [stream('1', 'aDD', 1, 2), "The client attempted to invoke the non-streaming 'aDD' method with a streaming invocation."],
  'a stream as a plain method': [invocation('1', 'sTREAM'), "The client attempted to invoke the streaming 'sTREAM' method with a non-streaming invocation."],
  'an uploading stream as a plain method': [upload(1, '1', 'StreamEcho', ['u']), "The client attempted to invoke the streaming 'StreamEcho' method with a non-streaming invocation."],
  'an unknown stream': [stream('1', 'Nothing'), "Failed to invoke 'Nothing' due to an error on the server. HubException: Method does not exist."],
  'wrong arguments of a stream': [stream('1', 'Counter', 1, 'x'), "Failed to invoke 'Counter' due to an error on the server."],
  'a method that returns no stream': [stream('1', 'NullStream'), "The value returned by the streaming method 'NullStream' is not a ChannelReader<> or IAsyncEnumerable<>."],
  'a stream that fails before it begins': [stream('1', 'StreamThrowException', 'secret'), INVOKING('StreamThrowException')],
};
for (const [what, [sent, error]] of Object.entries(misuse)) {
  test(`${what}: one completion, with the reason`, async (t) => {
    const hub = await open(t);
    hub.send(sent);
    assert.deepEqual(await hub.record(), failure('1', error));
    await hub.lives();
  });
}

test('a plain call of a stream that nobody waits for is not answered', async (t) => {
  const hub = await open(t);
  hub.send(record({ type: 1, target: 'Stream', arguments: [] }));
  await hub.lives();
});

test('the end of a stream has neither a result nor an error', async (t) => {
  const hub = await open(t);
  hub.send(stream('1', 'Counter', 1, 0));
  assert.deepEqual(await hub.records(2), [{ type: 2, invocationId: '1', item: 0 }, { type: 3, invocationId: '1' }]);
});

test('a cancelled stream ends with one completion, without an error', async (t) => {
  const hub = await open(t);
  hub.send(stream('1', 'Counter', 1_000_000, 1));
  const ending = record({ type: 5, invocationId: '1' });
  assert.deepEqual(await hub.record(), { type: 2, invocationId: '1', item: 0 });
  hub.send(ending, ending);
  let last;
  do last = await hub.record();
  while (last.type === 2);
  assert.deepEqual(last, { type: 3, invocationId: '1' });
  await hub.lives();
});

test('what is uploaded to a stream that was cancelled is ignored', async (t) => {
  const hub = await open(t);
  hub.send(upload(4, '1', 'StreamEcho', ['u']) + item('u', 'a'));
  assert.deepEqual(await hub.record(), { type: 2, invocationId: '1', item: 'echo:a' });
  // A method that waits for an item may notice only then that it was cancelled.
  hub.send(record({ type: 5, invocationId: '1' }), ...numbers(100).map((i) => item('u', String(i))), end('u'), invocation('2', 'Echo', 'x'));
  const ends = [];
  while (ends.length < 2) {
    const seen = await hub.record();
    if (seen.type === 3) ends.push(seen);
  }
  assert.deepEqual(ends.sort((a, b) => a.invocationId - b.invocationId), [{ type: 3, invocationId: '1' }, completion('2', 'x')]);
  await hub.lives();
});

test('a stream id that is in use is refused, and the stream that uses it is not disturbed', { skip: differsOn31('3.1 does not look') }, async (t) => {
  const hub = await open(t);
  hub.send(stream('1', 'InfiniteStream') + stream('1', 'Stream'));
  assert.deepEqual(await hub.record(), failure('1', "Invocation ID '1' is already in use."));
  await hub.lives();
  hub.send(record({ type: 5, invocationId: '1' }));
  const seen = (await hub.records(2)).sort((a, b) => a.type - b.type);
  assert.deepEqual(seen, [{ type: 1, target: 'StreamCanceled', arguments: [] }, { type: 3, invocationId: '1' }]);
});

test('an upload id that is in use is refused, and the upload that uses it is not disturbed', { skip: differsOn31('3.1 replaces the older one') }, async (t) => {
  const hub = await open(t);
  hub.send(upload(1, '1', 'StreamingConcat', ['u']) + item('u', 'a') + upload(1, '2', 'StreamingConcat', ['u']));
  const refused = await hub.record();
  assert.deepEqual([refused.type, refused.invocationId], [3, '2']);
  assert.ok(refused.error, 'the second call fails');
  hub.send(item('u', 'b') + end('u'));
  assert.deepEqual(await hub.record(), completion('1', 'ab'));
  await hub.lives();
});

test('one call may not use an upload id twice', { skip: differsOn31('3.1 replaces the older one') }, async (t) => {
  const hub = await open(t);
  hub.send(upload(1, '1', 'TwoStreams', ['u', 'u']));
  const refused = await hub.record();
  assert.deepEqual([refused.type, refused.invocationId], [3, '1']);
  assert.ok(refused.error);
  await hub.lives();
});

test('the ids of streams and uploads that have ended may be used again', async (t) => {
  const hub = await open(t);
  for (const text of ['a', 'b']) {
    hub.send(upload(1, '1', 'StreamingConcat', ['u']), item('u', text), end('u'));
    assert.deepEqual(await hub.record(), completion('1', text));
    hub.send(stream('s', 'Counter', 1, 0));
    assert.deepEqual(await hub.records(2), [{ type: 2, invocationId: 's', item: 0 }, { type: 3, invocationId: 's' }]);
  }
});

test('a stream and an upload may have the same id', async (t) => {
  const hub = await open(t);
  hub.send(upload(4, 'x', 'StreamEcho', ['x']) + item('x', 'a'));
  assert.deepEqual(await hub.record(), { type: 2, invocationId: 'x', item: 'echo:a' });
  hub.send(end('x'));
  assert.deepEqual(await hub.record(), { type: 3, invocationId: 'x' });
  await hub.lives();
});

test('uploads and streams go on beside a call that takes its time', { skip: differsOn31('before 7 one call holds up everything') }, async (t) => {
  const hub = await open(t);
  hub.send(upload(1, 'up', 'StreamingConcat', ['u']) + stream('down', 'InfiniteStream') + invocation('slow', 'DelayedEcho', 'slow', 60_000));
  hub.send(item('u', 'a'), end('u'));
  assert.deepEqual(await hub.record(), completion('up', 'a'));
  hub.send(record({ type: 5, invocationId: 'down' }));
  assert.deepEqual((await hub.records(2)).map(({ type }) => type).sort(), [1, 3]);
  hub.send(stream('more', 'Counter', 1, 0));
  assert.deepEqual(await hub.records(2), [{ type: 2, invocationId: 'more', item: 0 }, { type: 3, invocationId: 'more' }]);
});

test('an upload that nobody reads holds back its sender, and only that one', async (t) => {
  const [hub, other] = [await open(t), await open(t)];
  hub.send(upload(1, '1', 'TwoStreams', ['unread first', 'full']));
  const text = item('full', 'x'.repeat(30_000));
  for (let i = 0; i < 1000; i++) hub.send(text);
  // Thirty megabytes: more than the network and the server hold. What is left here stops getting less.
  let [before, quiet] = [Infinity, 0];
  await eventually(() => {
    quiet = hub.socket.bufferedAmount === before ? quiet + 1 : 0;
    before = hub.socket.bufferedAmount;
    return quiet >= 10;
  }, 'the end of the writing');
  assert.ok(before > 1_000_000, `the server took all but ${before} bytes`);
  await other.lives();
});

test('an upload that is read takes all there is, however much', async (t) => {
  const hub = await open(t);
  hub.send(upload(1, '1', 'UploadThenNotify', ['u']));
  const text = item('u', 'x'.repeat(30_000));
  for (let i = 0; i < 1000; i++) hub.send(text);
  hub.send(end('u'));
  assert.deepEqual(await hub.records(2), [{ type: 1, target: 'UploadDone', arguments: [1000] }, completion('1', null)]);
});

test('ten items of an upload that is read later wait for it', async (t) => {
  const hub = await open(t);
  hub.send(upload(1, '1', 'TwoStreams', ['u', 'v']), ...numbers(10).map((i) => item('v', String(i))));
  await hub.lives();
  hub.send(item('u', 'first') + end('u') + end('v'));
  assert.deepEqual(await hub.record(), completion('1', 'first|0123456789'));
});

test('a client that does not read its stream does not lose an item', async (t) => {
  const hub = await open(t);
  hub.send(stream('1', 'Counter', 100_000, 0));
  hub.socket.pause();
  const other = await open(t);
  await other.lives();
  hub.socket.resume();
  for (const i of numbers(100_000)) {
    const { item: got } = await hub.record(`item ${i}`);
    if (got !== i) assert.equal(got, i);
  }
  assert.deepEqual(await hub.record(), { type: 3, invocationId: '1' });
});

test('a stream ends with its connection', async (t) => {
  const [watcher, hub] = [await open(t), await open(t)];
  watcher.send(invocation('w', 'WatchDisconnects'));
  assert.deepEqual(await watcher.record(), completion('w', null));
  hub.send(invocation('id', 'GetCallerConnectionId'));
  const { result: id } = await hub.record();
  hub.send(stream('1', 'Counter', 1_000_000, 1) + upload(1, '2', 'StreamingConcat', ['u']) + item('u', 'x'));
  await hub.record('an item');
  hub.socket.terminate();
  let told;
  do told = await watcher.record('the end of the connection');
  while (told.target !== 'Disconnected' || told.arguments[0] !== id);
});

test('over Long Polling and events, whatever a stream brings is in whole records', async (t) => {
  const text = unique('x').repeat(200);
  for (const way of WAYS.filter(({ packed }) => !packed)) {
    const client = await TestClient.start(t, way);
    const subject = new Subject();
    const seen = new Log();
    client.connection.stream('StreamEcho', subject).subscribe({ next: (one) => seen.push(one), complete() {}, error() {} });
    for (let i = 0; i < 50; i++) subject.next(text);
    assert.deepEqual(await seen.first(50), Array(50).fill(`echo:${text}`));
    await within(client.stop(), 'the end');
  }
});
