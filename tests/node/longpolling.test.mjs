// Long polling as any HTTP client sees it: polls that bring what there is, and POSTs beside them.

import assert from 'node:assert/strict';
import http from 'node:http';
import { describe, test } from 'node:test';
import { differsOn31, newRoom, within } from './helpers.mjs';
import { CONNECTION_ERROR, HANDSHAKE, RS, RawHub, completion, failure, invocation, negotiate, record, request, upgrade } from './raw.mjs';
import { EVENTS, GONE, NO_DELETE, OTHER_TRANSPORT, Poll, Polling, check, eventually, isGone, newId, recordsOf } from './transports.mjs';

const echo = (id, text = id) => invocation(id, 'Echo', text);
const numbered = (count) => Array.from({ length: count }, (_, i) => String(i));
const GOODBYE = { type: 7, allowReconnect: true };

/** Puts messages from somebody else between two polls: when this returns, they wait for the next poll. */
async function waiting(t, polling, texts) {
  const room = newRoom();
  await polling.send(invocation('join', 'JoinRoom', room));
  await polling.records(2);
  const other = await RawHub.open(t);
  for (const text of texts) {
    other.send(invocation('send', 'SendMessage', room, 'other', text));
    assert.deepEqual(await other.record(), completion('send', null));
  }
  return texts.map((text) => ({ type: 1, target: 'ReceiveMessage', arguments: ['other', text] }));
}

// ---- Polls.

test('the first poll is answered at once with nothing', async (t) => {
  const id = await newId();
  const answer = await new Poll(id).result();
  check(answer, [200, '']);
  assert.equal(answer.headers['content-type'], 'application/octet-stream');
  assert.equal(answer.headers['content-length'], '0');
  await request('DELETE', id);
});

test('the first poll is answered with nothing even when the handshake is waiting already', async (t) => {
  const id = await newId();
  check(await request('POST', id, { body: HANDSHAKE + echo('1') }), [200, '']);
  check(await new Poll(id).result(), [200, '']);
  const records = [];
  while (records.length < 2) records.push(...recordsOf(await new Poll(id).result()));
  assert.deepEqual(records, [{}, completion('1', '1')]);
  await request('DELETE', id);
});

test('the answer to the handshake comes with the next poll, as bytes whose length is declared', async (t) => {
  const polling = await Polling.open(t, { handshake: false });
  await polling.send(HANDSHAKE);
  const answer = await polling.poll().result();
  check(answer, [200, `{}${RS}`]);
  assert.equal(answer.headers['content-type'], 'application/octet-stream');
  assert.equal(answer.headers['content-length'], '3');
});

test('a poll waits until there is something', async (t) => {
  const polling = await Polling.open(t);
  const poll = polling.poll();
  await polling.send(echo('1', 'é🦀'));
  const answer = await poll.result();
  assert.deepEqual([answer.status, recordsOf(answer)], [200, [completion('1', 'é🦀')]]);
  assert.equal(Number(answer.headers['content-length']), Buffer.byteLength(answer.body));
});

test('a poll brings everything that is waiting, in order', async (t) => {
  const polling = await Polling.open(t);
  const messages = await waiting(t, polling, numbered(20));
  assert.deepEqual(recordsOf(await polling.poll().result()), messages);
  await polling.lives();
});

test('many messages in one POST are answered in order', async (t) => {
  const polling = await Polling.open(t);
  await polling.send(numbered(500).map((id) => echo(id)).join(''));
  assert.deepEqual(await polling.records(500), numbered(500).map((id) => completion(id, id)));
});

test('a poll may say that a call failed, and the connection lives', async (t) => {
  const polling = await Polling.open(t);
  await polling.send(invocation('1', 'Nothing'));
  const error = "Failed to invoke 'Nothing' due to an error on the server. HubException: Method does not exist.";
  assert.deepEqual(await polling.record(), failure('1', error));
  await polling.lives();
});

const notCached = differsOn31('it says nothing about caches');

test('no answer to a poll may be cached, whatever it is', { skip: notCached }, async (t) => {
  const polling = await Polling.open(t, { handshake: false });
  const id = await newId();
  const answers = { 'the first': await new Poll(id).result() };
  await request('DELETE', id);
  const older = polling.poll();
  await polling.send(HANDSHAKE);
  answers.data = await older.result();
  // Whichever of the two comes first.
  const polls = [polling.poll(), polling.poll()].map((poll) => poll.result());
  answers.overtaken = await Promise.race(polls);
  await polling.send(`garbage${RS}`);
  answers.goodbye = (await Promise.all(polls)).find((answer) => answer !== answers.overtaken);
  answers.end = await polling.poll().result();
  answers.gone = await polling.poll().result();
  answers['without an id'] = await request('GET');
  assert.deepEqual(Object.values(answers).map(({ status }) => status), [200, 200, 204, 200, 204, 404, 400]);
  for (const [what, { headers }] of Object.entries(answers)) {
    assert.equal(headers['cache-control'], 'no-cache, no-store', what);
    assert.equal(headers.pragma, 'no-cache', what);
    assert.equal(headers.expires, 'Thu, 01 Jan 1970 00:00:00 GMT', what);
  }
});

test('polls and POSTs may all use one TCP connection each', async (t) => {
  const polling = await Polling.open(t);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const ports = new Set();
  for (const id of numbered(20)) {
    await polling.send(echo(id));
    const poll = polling.poll({ agent });
    assert.deepEqual(recordsOf(await poll.result()), [completion(id, id)]);
    ports.add(poll.sent.socket?.localPort ?? (await poll.response).socket?.localPort);
  }
  assert.equal(ports.size, 1);
});

// ---- Two polls at once.

test('a newer poll ends an older one with 204 and nothing', async (t) => {
  const polling = await Polling.open(t);
  const polls = [polling.poll()];
  for (let i = 0; i < 5; i++) {
    polls.push(polling.poll());
    const answer = await Promise.race(polls.map((poll) => poll.result()));
    check(answer, [204, '']);
    // Two requests on two sockets may overtake each other, so either may be the older one.
    const ended = await Promise.race(polls.map(async (poll, at) => poll.result().then(() => at)));
    polls.splice(ended, 1);
  }
  await polling.send(echo('1'));
  assert.deepEqual(recordsOf(await polls[0].result()), [completion('1', '1')]);
  await polling.lives();
});

test('two first polls at once leave a connection that works', async (t) => {
  const id = await newId();
  const polls = [new Poll(id), new Poll(id)];
  // One attaches the transport. The other is its successor or was overtaken by it; it may have to wait for data.
  check(await Promise.race(polls.map((poll) => poll.result())), [200, '']);
  check(await request('POST', id, { body: HANDSHAKE }), [200, '']);
  const records = (await Promise.all(polls.map((poll) => poll.result()))).flatMap(recordsOf);
  while (records.length < 1) records.push(...recordsOf(await new Poll(id).result()));
  assert.deepEqual(records, [{}]);
  await request('DELETE', id);
});

test('polls that overtake each other while messages flow lose nothing and bring nothing twice', async (t) => {
  const polling = await Polling.open(t);
  const answers = [];
  let ended = 0;
  const sent = (async () => {
    for (const id of numbered(200)) await polling.send(echo(id));
  })();
  const all = async () => {
    while (ended < 200) {
      const answer = await polling.poll().result();
      assert.ok([200, 204].includes(answer.status), `status ${answer.status}`);
      const records = recordsOf(answer);
      answers.push(...records);
      ended += records.length;
      // The last one may be waiting when the other has everything.
      if (ended >= 200) await polling.send(echo('over'));
    }
  };
  await within(Promise.all([sent, all(), all()]), 'two hundred answers', 20_000);
  const ids = answers.map(({ invocationId }) => invocationId).filter((id) => id !== 'over').sort((a, b) => a - b);
  assert.deepEqual(ids, numbered(200));
});

// ---- A client that drops its poll.

/** Waits until a poll is at the server: a POST that was sent behind it has been answered. */
async function begun(polling, poll) {
  await within(new Promise((resolve) => (poll.sent.writableFinished ? resolve() : poll.sent.on('finish', resolve))), 'sending a poll');
  await polling.send('');
}

test('a poll that the client dropped costs nothing: what comes later is brought by the next', async (t) => {
  const polling = await Polling.open(t);
  for (let round = 0; round < 20; round++) {
    const poll = polling.poll();
    await begun(polling, poll);
    poll.drop();
    const next = polling.poll();
    // Until then the dropped one may still take what comes, as its end is on its way, too.
    await begun(polling, next);
    await polling.send(echo(String(round)));
    assert.deepEqual(recordsOf(await next.result()), [completion(String(round), String(round))]);
  }
});

test('messages that wait while nobody polls are all there when somebody does', async (t) => {
  const polling = await Polling.open(t);
  const poll = polling.poll();
  poll.drop();
  await polling.lives('first'); // takes the place of the dropped poll
  const messages = await waiting(t, polling, numbered(50));
  assert.deepEqual(await polling.records(50), messages);
});

// ---- Size.

const LARGE = 'x'.repeat(20 * 1024);

test('several messages of 20 KB in one POST come back whole', async (t) => {
  const polling = await Polling.open(t);
  const ids = numbered(5);
  const post = polling.send(ids.map((id) => echo(id, LARGE + id)).join(''));
  assert.deepEqual(await polling.records(ids.length), ids.map((id) => completion(id, LARGE + id)));
  await post;
});

test('a POST larger than all buffers is answered once it has been taken', async (t) => {
  const polling = await Polling.open(t);
  const ids = numbered(60);
  // More than a megabyte: the hub cannot go on before somebody polls for its answers.
  const post = polling.send(ids.map((id) => echo(id, LARGE + id)).join(''));
  assert.deepEqual(await polling.records(ids.length), ids.map((id) => completion(id, LARGE + id)));
  await post;
  await polling.lives();
});

test('one poll may bring more than a hundred kilobytes', { skip: differsOn31('its buffer holds 32 KiB') }, async (t) => {
  const polling = await Polling.open(t);
  const messages = await waiting(t, polling, numbered(3).map((id) => id + LARGE));
  assert.deepEqual(recordsOf(await polling.poll().result()), messages);
});

// ---- The end.

test('a connection that polls ends with DELETE, and its poll with it', async (t) => {
  const polling = await Polling.open(t);
  const poll = polling.poll();
  const answer = await request('DELETE', polling.id);
  check(answer, [202, '']);
  assert.match(answer.headers['content-type'], /^text\/plain/);
  const last = await poll.result();
  // Whether the hub can still say goodbye is a matter of luck, and so is which of the two requests came first.
  if (last.status === 200) assert.deepEqual(recordsOf(last), [GOODBYE]);
  else if (last.status !== 404) check(last, [204, '']);
  await isGone(polling.id);
});

test('after DELETE without a poll no request reaches the connection, but one poll may still see how it ended', async (t) => {
  const polling = await Polling.open(t);
  check(await request('DELETE', polling.id), [202, '']);
  const last = await polling.poll().result();
  assert.ok([200, 204, 404].includes(last.status), `status ${last.status}`);
  if (last.status === 200) assert.deepEqual(recordsOf(last), [GOODBYE]);
  await isGone(polling.id);
});

test('DELETE before the handshake ends a connection, too', async (t) => {
  const polling = await Polling.open(t, { handshake: false });
  check(await request('DELETE', polling.id), [202, '']);
  await isGone(polling.id);
});

test('DELETE before the first poll is refused, and the poll still works', async (t) => {
  const id = await newId();
  check(await request('DELETE', id), NO_DELETE);
  check(await new Poll(id).result(), [200, '']);
  check(await request('DELETE', id), [202, '']);
});

test('a member that ended with DELETE hears no more of its room and does not disturb it', async (t) => {
  const room = newRoom();
  const polling = await Polling.open(t);
  await polling.send(invocation('join', 'JoinRoom', room));
  await polling.records(2);
  const other = await RawHub.open(t);
  other.send(invocation('join', 'JoinRoom', room));
  await other.records(2);
  await request('DELETE', polling.id);
  await isGone(polling.id);
  other.send(invocation('say', 'SendMessage', room, 'other', 'alone?'));
  assert.deepEqual((await other.record()).arguments, ['other', 'alone?']);
  assert.deepEqual(await other.record(), completion('say', null));
});

for (const [what, text] of Object.entries({
  'a message that is not JSON': `garbage${RS}`,
  'a second handshake': HANDSHAKE,
  'a message over the size limit': 'x'.repeat(40_000),
})) {
  test(`${what} is taken with 200; then polls bring the reason, 204, and 404 for ever`, async (t) => {
    const polling = await Polling.open(t);
    const poll = polling.poll();
    await polling.send(text);
    const answer = await poll.result();
    assert.deepEqual([answer.status, recordsOf(answer)], [200, [CONNECTION_ERROR]]);
    check(await polling.poll().result(), [204, '']);
    check(await polling.poll().result(), GONE);
    await isGone(polling.id);
  });
}

test('what comes behind a bad message is not answered, what comes before it is', async (t) => {
  const polling = await Polling.open(t);
  await polling.send(`${echo('1')}garbage${RS}${echo('2')}`);
  assert.deepEqual(await polling.record(), completion('1', '1'));
  await polling.connectionError();
});

for (const [what, text, error] of [
  ['garbage', 'garbage', 'An unexpected error occurred during connection handshake.'],
  ['an unknown protocol', '{"protocol":"nope","version":1}', "The protocol 'nope' is not supported."],
]) {
  test(`a handshake of ${what} is refused and the polls end`, async (t) => {
    const polling = await Polling.open(t, { handshake: false });
    await polling.send(text + RS);
    assert.deepEqual(await polling.record(), { error });
    await polling.end();
  });
}

test('a client may say goodbye', { skip: differsOn31('it does not expect a Close message from a client') }, async (t) => {
  const polling = await Polling.open(t);
  await polling.send(record({ type: 7 }));
  const last = await polling.poll().result();
  if (last.status === 200) {
    const [{ type, error }] = recordsOf(last);
    assert.deepEqual([type, error], [7, undefined]);
  }
  await isGone(polling.id);
});

// ---- Other requests.

test('no other transport can take over polling, and trying does not disturb it', async (t) => {
  const polling = await Polling.open(t);
  check(await request('GET', polling.id, { headers: EVENTS }), OTHER_TRANSPORT);
  check(await upgrade(polling.id), OTHER_TRANSPORT);
  for (const method of ['PUT', 'PATCH', 'OPTIONS', 'HEAD']) check(await request(method, polling.id), [405, '']);
  const poll = polling.poll();
  check(await request('GET', polling.id, { headers: EVENTS }), OTHER_TRANSPORT);
  check(await upgrade(polling.id), OTHER_TRANSPORT);
  await polling.send(echo('1'));
  assert.deepEqual(recordsOf(await poll.result()), [completion('1', '1')]);
});

test('the connection id of negotiate version 0 is an id for polls, the public one of version 1 is not', async () => {
  const old = await negotiate('');
  check(await request('GET', `?id=${old.connectionId}`), [200, '']);
  check(await request('DELETE', `?id=${old.connectionId}`), [202, '']);
  const { connectionId } = await negotiate();
  check(await request('GET', `?id=${connectionId}`), GONE);
  check(await request('DELETE', `?id=${connectionId}`), GONE);
});

test('other parameters of the query do not disturb, such as those that keep caches away', async (t) => {
  const polling = await Polling.open(t);
  polling.id += '&_=1234567890';
  await polling.lives();
});

// ---- Silence. These take as long as the server's time limits, side by side.

describe('silence', { concurrency: true }, () => {
  const since = (begin) => (Date.now() - begin) / 1000;
  const between = (least, most, begin) => assert.ok(since(begin) >= least && since(begin) <= most, `after ${since(begin)} s`);

  test('a connection without a poll is forgotten after 15 s, however much is posted', async (t) => {
    const polling = await Polling.open(t);
    const begin = Date.now();
    await eventually(async () => (await request('POST', polling.id)).status === 404, 'the end', 20_000, 500);
    between(14, 18, begin);
    await isGone(polling.id);
  });

  test('a connection that nobody attached a transport to is forgotten after 15 s', async () => {
    const id = await newId();
    const begin = Date.now();
    await eventually(async () => (await request('POST', id)).status === 404, 'the end', 20_000, 500);
    between(14, 18, begin);
    await isGone(id);
  });

  test('a poll that is under way keeps a connection, however long nothing happens', async (t) => {
    const polling = await Polling.open(t);
    const silent = await Polling.open(t);
    const poll = polling.poll();
    await eventually(async () => (await request('POST', silent.id)).status === 404, 'the end of one that does not poll', 20_000, 500);
    await polling.send(echo('1'));
    assert.deepEqual(recordsOf(await poll.result()), [completion('1', '1')]);
    await polling.lives();
  });

  test('a poll is not answered with pings, and a client that polls need not send any', async (t) => {
    const polling = await Polling.open(t);
    const clock = await RawHub.open(t);
    const poll = polling.poll();
    // The second ping of a WebSocket comes after 30 s: by then a poll would have been pinged, and its client given up.
    for (let i = 0; i < 2; i++) assert.deepEqual(await clock.record('a ping', 20_000), { type: 6 });
    await polling.send(echo('1'));
    assert.deepEqual(recordsOf(await poll.result()), [completion('1', '1')]);
  });

  test('a connection without a handshake is cancelled after 15 s', async (t) => {
    const polling = await Polling.open(t, { handshake: false });
    const begin = Date.now();
    assert.deepEqual(recordsOf(await polling.poll().result(20_000)), [{ error: 'Handshake was canceled.' }]);
    between(14, 18, begin);
    check(await polling.poll().result(), [204, '']);
    await isGone(polling.id);
  });
});
