// What is done to two servers to see whether they do the same, and the record of what they did.

import assert from 'node:assert/strict';
import http from 'node:http';
import WebSocket from 'ws';
import { DEADLINE, Log, shorten, within } from './helpers.mjs';
import { HANDSHAKE, RS, invocation, request, upgradeHeaders } from './raw.mjs';
import { EVENTS, Poll, SlowPost } from './transports.mjs';

/** The headers that say something about the protocol; the others are the servers' own. */
const TELLING = ['content-type', 'allow', 'upgrade', 'sec-websocket-protocol', 'sec-websocket-extensions', 'content-encoding'];

/** Runs a scenario on the conformance hub of a server and gives the transcript, which ends with the failure if there was one. */
export async function transcriptOf({ run }, origin) {
  const subject = new Subject(origin);
  try {
    await run(subject);
  } catch (error) {
    subject.note({ failed: error.message });
  } finally {
    await subject.over();
  }
  return subject.transcript;
}

/** One server, and the transcript of one scenario on it: what it sent, with its ids made equal to those of any other server. */
export class Subject {
  transcript = [];
  #ids = new Map();
  #endings = [];

  constructor(origin, path = '/testHub') {
    this.hub = origin.replace(/\/$/, '') + path;
  }

  /** Remembers an id of this server under a name, which stands for it in the transcript. */
  name(id, name) {
    this.#ids.set(id, `<${name}>`);
    return id;
  }

  note(...what) {
    // The longest first: one id may be a part of another.
    const ids = [...this.#ids].sort(([a], [b]) => b.length - a.length);
    const same = (text) => ids.reduce((all, [id, name]) => all.replaceAll(id, name), text);
    const short = (_, value) => (typeof value === 'string' && value.length > 1000 ? `${value.slice(0, 20)}… (${value.length} characters)` : value);
    for (const one of what) this.transcript.push(JSON.parse(same(JSON.stringify(one, short))));
  }

  /** The last `count` notes may have come in any order. */
  sort(count) {
    const texts = this.transcript.splice(-count).map((note) => JSON.stringify(note));
    this.transcript.push(...texts.sort().map((text) => JSON.parse(text)));
  }

  /** Something to be undone when the scenario is over. */
  after(undo) {
    this.#endings.push(undo);
  }

  async over() {
    for (const undo of this.#endings.reverse()) await undo();
  }

  #answer({ status, headers, body }) {
    const told = Object.fromEntries(TELLING.filter((name) => headers[name] !== undefined).map((name) => [name, headers[name].toLowerCase()]));
    if (body === '') return { status, ...told };
    return { status, ...told, body: headers['content-type']?.startsWith('application/json') ? JSON.parse(body) : body };
  }

  /** One request, noted with its answer. */
  async http(method, suffix = '', options = {}) {
    const answer = await request(method, suffix, { ...options, hub: this.hub });
    answer.socket?.destroy();
    this.note({ [`${method} ${suffix}`]: this.#answer(answer) });
    return answer;
  }

  upgrade(suffix = '', changes = {}) {
    return this.http('GET', suffix, { headers: upgradeHeaders(changes) });
  }

  /** An upgrade that is not noted; its socket is dropped. */
  async upgraded(suffix) {
    const answer = await request('GET', suffix, { headers: upgradeHeaders(), hub: this.hub });
    answer.socket?.destroy();
    return answer;
  }

  /** A POST that is not looked at. */
  async post(id, body) {
    const answer = await request('POST', id, { hub: this.hub, body, headers: { 'Content-Length': Buffer.byteLength(body) } });
    assert.equal(answer.status, 200, answer.body);
  }

  /** Negotiates and notes the answer. */
  async negotiate(query) {
    const answer = await request('POST', `/negotiate${query}`, { hub: this.hub });
    const body = answer.status === 200 ? JSON.parse(answer.body) : {};
    if (body.connectionToken) this.name(body.connectionToken, 'token');
    if (body.connectionId) this.name(body.connectionId, 'id');
    this.note({ [`negotiate${query}`]: this.#answer(answer) });
    return body;
  }

  /** The query of a new connection, which is not noted. */
  async id() {
    const answer = await request('POST', '/negotiate?negotiateVersion=1', { hub: this.hub });
    const { connectionId, connectionToken } = JSON.parse(answer.body);
    this.name(connectionId, 'id');
    this.name(encodeURIComponent(connectionToken), 'token');
    return `?id=${encodeURIComponent(connectionToken)}`;
  }

  async socket(options) {
    const socket = new Socket(this);
    await socket.open(options);
    return socket;
  }

  /** Starts a poll. */
  poll(id, headers = {}) {
    const poll = new Poll(id, { hub: this.hub, headers });
    this.after(() => poll.drop());
    return poll;
  }

  /** Polls once, and notes the answer. */
  async polled(id, poll = this.poll(id)) {
    const answer = await poll.result();
    const { body, ...rest } = this.#answer(answer);
    this.note({ poll: body === undefined ? rest : { ...rest, records: body.split(RS) } });
    return answer;
  }

  /** Polls until these many records have come; they are noted, not in how many answers they came. */
  async records(id, count) {
    const found = [];
    while (found.length < count) {
      const { status, body } = await this.poll(id).result();
      assert.equal(status, 200, body);
      assert.ok(body === '' || body.endsWith(RS), `a poll ends in the middle of a record: ${shorten(body)}`);
      found.push(...body.split(RS).slice(0, -1).map((one) => JSON.parse(one)));
    }
    this.note(...found);
  }

  /** A connection over Long Polling after its handshake. */
  async polling() {
    const id = await this.id();
    assert.equal((await this.poll(id).result()).status, 200);
    await this.post(id, HANDSHAKE);
    assert.equal((await this.poll(id).result()).body, `{}${RS}`);
    this.after(() => request('DELETE', id, { hub: this.hub }));
    return id;
  }

  slowPost(id) {
    return new SlowPost(id, { hub: this.hub });
  }

  /** An event stream, whose bytes are noted. */
  async events(id, headers = EVENTS) {
    const events = new Stream(this, id);
    await events.open(headers);
    return events;
  }
}

/** A WebSocket whose records are noted as they are taken. */
class Socket {
  #subject;
  #log = new Log();
  #taken = 0;

  constructor(subject) {
    this.#subject = subject;
  }

  async open({ handshake = true, query = '' } = {}) {
    const socket = new WebSocket(this.#subject.hub.replace(/^http/, 'ws') + query, { perMessageDeflate: false });
    this.socket = socket;
    this.#subject.after(() => socket.terminate());
    socket.on('message', (data, binary) => {
      const text = data.toString();
      if (binary || !text.endsWith(RS)) return this.#log.push({ broken: text, binary });
      for (const one of text.slice(0, -1).split(RS)) this.#log.push(JSON.parse(one));
    });
    socket.on('pong', (data) => this.#log.push({ pong: data.toString() }));
    socket.on('close', (code, reason) => this.#log.push({ closed: code, reason: reason.toString() }));
    socket.on('error', () => {}); // seen as the end that follows
    await within(new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject)), 'opening a WebSocket');
    if (!handshake) return;
    this.send(HANDSHAKE);
    assert.deepEqual(await this.#next(), {});
  }

  send(...messages) {
    for (const message of messages) this.socket.send(message);
  }

  #next(ms = DEADLINE) {
    const at = this.#taken++;
    return this.#log.until((items) => items[at], 'what a server should send', ms);
  }

  /** The next thing that arrives, noted. */
  async take(ms) {
    const item = await this.#next(ms);
    this.#subject.note(item);
    return item;
  }

  async takes(count) {
    for (let i = 0; i < count; i++) await this.take();
  }

  /** Notes how the connection is closed. Whether a Close message still comes before that is up to who is faster. */
  async ends() {
    for (;;) {
      const item = await this.#next();
      if ('closed' in item) return this.#subject.note(item);
    }
  }

  /** Notes everything up to the end of the connection, or to the answer of a call that is made now. */
  async fence() {
    if (this.socket.readyState === WebSocket.OPEN) this.send(invocation('fence', 'Echo', 'fence'));
    for (;;) {
      const item = await this.take();
      if ('closed' in item || item.invocationId === 'fence') return;
    }
  }
}

/** The bytes of an event stream. */
class Stream {
  #subject;
  #log = new Log();
  #text = '';

  constructor(subject, id) {
    this.#subject = subject;
    this.id = id;
  }

  async open(headers) {
    const url = new URL(this.#subject.hub);
    this.sent = http.request({ host: url.hostname, port: url.port, path: url.pathname + this.id, headers, agent: false });
    this.sent.on('error', () => {});
    this.#subject.after(() => this.sent.destroy());
    const answered = new Promise((resolve) => this.sent.on('response', resolve));
    this.sent.end();
    this.response = await within(answered, 'the headers of the events');
    this.response.setEncoding('utf8').on('data', (text) => this.#log.push((this.#text += text)));
    this.response.on('end', () => this.#log.push((this.#text += '<end>')));
    this.response.on('error', () => {});
    const { headers: got, statusCode: status } = this.response;
    this.#subject.note({ status, type: got['content-type'], encoding: got['content-encoding'] });
  }

  /** Waits until the text so far ends like this, and notes all of it. */
  async until(end) {
    this.#subject.note(await this.#log.until(() => this.#text.endsWith(end) && this.#text, `events that end with ${shorten(end)}`));
  }
}
