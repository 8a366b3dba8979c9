// The wire without a SignalR client: plain HTTP requests, and a WebSocket that shows the hub's records one by one.

import assert from 'node:assert/strict';
import http from 'node:http';
import { randomBytes } from 'node:crypto';
import WebSocket from 'ws';
import { Log, hubUrl, shorten, within } from './helpers.mjs';

/** Ends every JSON record, in both directions. */
export const RS = '\x1e';

export const HANDSHAKE = `{"protocol":"json","version":1}${RS}`;

/** What a client is told before the server ends a connection because of what the client sent. */
export const CONNECTION_ERROR = { type: 7, error: 'Connection closed with an error.', allowReconnect: true };

export const record = (message) => JSON.stringify(message) + RS;

export const invocation = (invocationId, target, ...values) => record({ type: 1, invocationId, target, arguments: values });

export const completion = (invocationId, result) => ({ type: 3, invocationId, result });

export const failure = (invocationId, error) => ({ type: 3, invocationId, error });

/**
 * One request to the hub: `suffix` is appended to its path, query included. A path that must not be touched goes into `path`,
 * the URL of another hub into `hub`.
 * Resolves with the status, the headers and the body; a socket that was upgraded comes along as `socket`.
 */
export function request(method, suffix = '', { headers = {}, body, path, hub = hubUrl() } = {}) {
  const url = new URL(hub);
  const options = { method, host: url.hostname, port: url.port, path: path ?? url.pathname + suffix, headers, agent: false };
  const answer = new Promise((resolve, reject) => {
    const sent = http.request(options);
    sent.on('error', reject);
    sent.on('response', (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts).toString() }));
    });
    sent.on('upgrade', (response, socket, head) => resolve({ status: response.statusCode, headers: response.headers, body: '', socket, head }));
    sent.end(body);
  });
  return within(answer, `the answer to ${method} ${options.path}`);
}

/** The headers of a WebSocket upgrade; `changes` replaces some, or removes those that are undefined. */
export function upgradeHeaders(changes = {}) {
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    ...changes,
  };
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));
}

/** Asks for an upgrade and drops the socket at once if there is one: for tests that only want to see the answer. */
export async function upgrade(suffix = '', changes = {}, more = {}) {
  const answer = await request(more.method ?? 'GET', suffix, { ...more, headers: upgradeHeaders(changes) });
  answer.socket?.destroy();
  return answer;
}

/** Negotiates and gives the answer's body; the default is what the stock client asks for. */
export async function negotiate(query = '?negotiateVersion=1') {
  const answer = await request('POST', `/negotiate${query}`);
  assert.equal(answer.status, 200, answer.body);
  return JSON.parse(answer.body);
}

/** A WebSocket on the hub. Whatever arrives is taken with `record()` and `close()`, in the order in which it came. */
export class RawHub {
  #log = new Log();
  #taken = 0;

  constructor(socket) {
    this.socket = socket;
    socket.on('message', (data, isBinary) => {
      const text = data.toString();
      // A server must not split a record over two messages; the stock client would fail, so every test here looks at it.
      if (isBinary || !text.endsWith(RS)) return this.#log.push({ broken: text, isBinary });
      for (const one of text.slice(0, -1).split(RS)) this.#log.push({ record: JSON.parse(one), raw: one });
    });
    socket.on('pong', (data) => this.#log.push({ pong: data.toString() }));
    socket.on('close', (code, reason) => this.#log.push({ close: code, reason: reason.toString() }));
    // A reset is seen as the close that follows it (1006).
    socket.on('error', () => {});
  }

  /** Opens a socket, with the handshake done unless `handshake` is false. `query` is appended to the hub's URL. */
  static async open(t, { url = hubUrl(), handshake = true, query = '' } = {}) {
    const socket = new WebSocket(url.replace(/^http/, 'ws') + query, { perMessageDeflate: false });
    t.after(() => socket.terminate());
    const hub = new RawHub(socket);
    const opened = new Promise((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('error', reject);
    });
    await within(opened, 'opening a WebSocket');
    if (handshake) {
      hub.send(HANDSHAKE);
      assert.deepEqual(await hub.record('the handshake response'), {});
    }
    return hub;
  }

  /** Sends texts as text messages and buffers as binary messages. */
  send(...messages) {
    for (const message of messages) this.socket.send(message);
  }

  /** The next thing that arrives, whatever it is: `{record, raw}`, `{pong}` or `{close, reason}`. */
  async next(what = 'something', ms) {
    const at = this.#taken++;
    return await this.#log.until((items) => items[at], what, ms);
  }

  /** The next thing that arrives, which must be a record. */
  async record(what = 'a record', ms) {
    const item = await this.next(what, ms);
    assert.ok('record' in item, `expected ${what}, got ${shorten(item)}`);
    return item.record;
  }

  /** The next `count` records. */
  async records(count) {
    const records = [];
    for (let i = 0; i < count; i++) records.push(await this.record(`record ${i + 1} of ${count}`));
    return records;
  }

  /** The close frame, which must be the next thing that arrives. */
  async close(code = 1000, ms) {
    const item = await this.next('the close frame', ms);
    assert.deepEqual(item, { close: code, reason: '' });
  }

  /** The connection ends now, as it does after a message that the server cannot accept. */
  async connectionError() {
    assert.deepEqual(await this.record('the Close message'), CONNECTION_ERROR);
    await this.close();
  }

  /** The connection works, and nothing else has arrived before this answer. */
  async lives(id = 'alive?') {
    this.send(invocation(id, 'Echo', 'yes'));
    assert.deepEqual(await this.record('the answer to Echo'), completion(id, 'yes'));
  }
}
