// The two transports that are not WebSockets, by hand: events that stay open, and polls that come and go.
// Both are read like a RawHub: `record()` takes what arrives, in the order in which it came.

import assert from 'node:assert/strict';
import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { DEADLINE, Log, hubUrl, shorten, within } from './helpers.mjs';
import { CONNECTION_ERROR, HANDSHAKE, RS, completion, invocation, request } from './raw.mjs';

export const EVENTS = { Accept: 'text/event-stream' };

/** What every request with the id of a connection that has ended, or never was, is answered. */
export const GONE = [404, 'No Connection with that ID'];

export const OTHER_TRANSPORT = [400, 'Cannot change transports mid-connection'];

export const NO_DELETE = [400, 'Cannot terminate this connection using the DELETE endpoint.'];

/** Checks the status and the body of an answer. */
export function check(answer, [status, body]) {
  assert.deepEqual([answer.status, answer.body], [status, body]);
}

/** Negotiates and gives the query with which all later requests of that connection are made. */
export async function newId(hub = hubUrl()) {
  const answer = await request('POST', '/negotiate?negotiateVersion=1', { hub });
  assert.equal(answer.status, 200, answer.body);
  return `?id=${encodeURIComponent(JSON.parse(answer.body).connectionToken)}`;
}

/** Asks again and again, but not too often, until `ask()` gives something; for things that nobody is told of. */
export async function eventually(ask, what, ms = DEADLINE, every = 50) {
  const limit = Date.now() + ms;
  for (;;) {
    const found = await ask();
    if (found) return found;
    assert.ok(Date.now() < limit, `${what}: not within ${ms} ms`);
    await pause(every);
  }
}

/** The connection has ended: no request reaches it any more. Whoever sees that last sees it within the deadline. */
export async function isGone(id, hub = hubUrl()) {
  await eventually(async () => (await request('POST', id, { hub })).status === 404, 'the end of the connection');
  for (const [method, headers] of [['POST', {}], ['GET', {}], ['GET', EVENTS], ['DELETE', {}]]) {
    check(await request(method, id, { hub, headers }), GONE);
  }
}

/** A request of which one sees the beginning before the end, and which one can drop. */
class Pending {
  #parts = [];

  constructor(method, suffix, { headers = {}, hub = hubUrl(), agent = false } = {}) {
    const url = new URL(hub);
    this.sent = http.request({ method, host: url.hostname, port: url.port, path: url.pathname + suffix, headers, agent });
    this.response = new Promise((resolve, reject) => {
      this.sent.on('error', reject);
      this.sent.on('response', resolve);
    });
    this.response.catch(() => {}); // dropped by the test itself, or seen by whoever waits
    this.answer = this.#answer();
    this.answer.catch(() => {});
    this.sent.flushHeaders();
  }

  async #answer() {
    const response = await this.response;
    for await (const part of response) this.#parts.push(part);
    return { status: response.statusCode, headers: response.headers, body: Buffer.concat(this.#parts).toString() };
  }

  drop() {
    this.sent.destroy();
  }
}

/** A POST whose body is written piece by piece: `write()` sends one, `end()` the last, and waits for the answer. */
export class SlowPost extends Pending {
  constructor(id, options) {
    super('POST', id, options);
  }

  write(part) {
    return within(new Promise((resolve, reject) => this.sent.write(part, (error) => (error ? reject(error) : resolve()))), 'writing a part');
  }

  end(part) {
    this.sent.end(part);
    return within(this.answer, 'the answer to a POST');
  }
}

/** A poll that is under way. */
export class Poll extends Pending {
  constructor(id, options) {
    super('GET', id, options);
    this.sent.end();
  }

  /** What it is answered: status, headers and body. */
  result(ms = DEADLINE) {
    return within(this.answer, 'the answer to a poll', ms);
  }
}

class Connection {
  constructor(id, hub) {
    this.id = id;
    this.hub = hub;
  }

  /** One POST; resolves with the answer. */
  post(body) {
    return request('POST', this.id, { hub: this.hub, body, headers: { 'Content-Length': Buffer.byteLength(body) } });
  }

  /** Sends texts or buffers, one POST each, one after the other. */
  async send(...bodies) {
    for (const body of bodies) check(await this.post(body), [200, '']);
  }

  /** The next `count` records. */
  async records(count) {
    const records = [];
    for (let i = 0; i < count; i++) records.push(await this.record(`record ${i + 1} of ${count}`));
    return records;
  }

  async handshake() {
    await this.send(HANDSHAKE);
    assert.deepEqual(await this.record('the handshake response'), {});
  }

  /** The connection works, and nothing else has arrived before this answer. */
  async lives(id = 'alive?') {
    await this.send(invocation(id, 'Echo', 'yes'));
    assert.deepEqual(await this.record('the answer to Echo'), completion(id, 'yes'));
  }
}

/** The server's side of an event stream, taken apart strictly: a comment first, then one line of whole records per event. */
export class Events extends Connection {
  /** Everything that arrived, as text. */
  text = '';
  #log = new Log();
  #taken = 0;
  #at = 0;
  #changes = new Log();

  /** Opens the stream of a new connection, or of the one with this id, with the handshake done unless `handshake` is false. */
  static async open(t, { hub = hubUrl(), id, handshake = true, headers = EVENTS } = {}) {
    const events = new Events(id ?? (await newId(hub)), hub);
    events.#request(t, headers);
    await events.#begin();
    if (handshake) await events.handshake();
    return events;
  }

  #request(t, headers) {
    const url = new URL(this.hub);
    this.sent = http.request({ host: url.hostname, port: url.port, path: url.pathname + this.id, headers, agent: false });
    t.after(() => this.drop());
    this.sent.end();
  }

  async #begin() {
    const answered = new Promise((resolve, reject) => {
      this.sent.on('response', resolve);
      this.sent.on('error', reject);
    });
    this.response = await within(answered, 'the headers of the events');
    assert.equal(this.response.statusCode, 200);
    this.response.setEncoding('utf8');
    this.response.on('data', (text) => this.#read(text));
    this.response.on('end', () => this.#log.push({ end: this.response.complete ? 'complete' : 'cut off' }));
    this.response.on('error', () => this.#log.push({ end: 'cut off' }));
    await this.until((text) => text.startsWith(':\r\n'), 'the first comment');
  }

  #read(text) {
    this.text += text;
    if (this.#at === 0 && this.text.length >= 3) {
      if (!this.text.startsWith(':\r\n')) this.#log.push({ broken: this.text });
      this.#at = 3;
    }
    for (let end; (end = this.text.indexOf('\r\n\r\n', this.#at)) >= 0; this.#at = end + 4) {
      const event = this.text.slice(this.#at, end);
      const data = /^data: ([^\r\n]*)\x1e$/.exec(event);
      if (!data) this.#log.push({ broken: event });
      else for (const one of data[1].split(RS)) this.#log.push({ record: JSON.parse(one), raw: one });
    }
    this.#changes.push(this.text.length);
  }

  /** Waits until all the text that has arrived is as wanted. */
  until(wanted, what, ms) {
    return this.#changes.until(() => wanted(this.text) || null, what, ms);
  }

  /** The next thing that arrives: `{record, raw}` or `{end}`. */
  next(what = 'something', ms) {
    const at = this.#taken++;
    return this.#log.until((items) => items[at], what, ms);
  }

  async record(what = 'a record', ms) {
    const item = await this.next(what, ms);
    assert.ok('record' in item, `expected ${what}, got ${shorten(item)}`);
    return item.record;
  }

  /** The stream ends as a response should, and nothing comes before that. */
  async end(ms) {
    assert.deepEqual(await this.next('the end of the events', ms), { end: 'complete' });
  }

  async connectionError() {
    assert.deepEqual(await this.record('the Close message'), CONNECTION_ERROR);
    await this.end();
    await isGone(this.id, this.hub);
  }

  drop() {
    this.sent.on('error', () => {});
    this.sent.destroy();
  }
}

/** A client that polls when somebody wants to read. */
export class Polling extends Connection {
  #records = [];

  /** A new connection after its first poll, with the handshake done unless `handshake` is false. */
  static async open(t, { hub = hubUrl(), handshake = true } = {}) {
    const polling = new Polling(await newId(hub), hub);
    t.after(() => request('DELETE', polling.id, { hub }).catch(() => {})); // the server itself may be gone
    check(await polling.poll().result(), [200, '']);
    if (handshake) await polling.handshake();
    return polling;
  }

  /** Starts a poll. */
  poll(options = {}) {
    return new Poll(this.id, { hub: this.hub, ...options });
  }

  /** Polls until there is something, and gives the next record. */
  async record(what = 'a record', ms = DEADLINE) {
    while (this.#records.length === 0) {
      const answer = await this.poll().result(ms);
      assert.equal(answer.status, 200, `expected ${what}`);
      this.#records.push(...recordsOf(answer));
    }
    return this.#records.shift();
  }

  async connectionError() {
    assert.deepEqual(await this.record('the Close message'), CONNECTION_ERROR);
    await this.end();
  }

  /** Nothing is left and the connection is over: 204 once, and 404 from then on. */
  async end() {
    assert.deepEqual(this.#records, []);
    check(await this.poll().result(), [204, '']);
    await isGone(this.id, this.hub);
  }
}

/** The records in the answer to a poll, which must be whole ones. */
export function recordsOf({ body }) {
  if (body === '') return [];
  assert.ok(body.endsWith(RS), `a poll's body ends in the middle of a record: ${shorten(body.slice(-100))}`);
  return body.slice(0, -1).split(RS).map((one) => JSON.parse(one));
}
