// The conformance hub: where it is, and stock clients of it, over every transport and in both encodings.

import { randomUUID } from 'node:crypto';
import { HttpTransportType, HubConnectionBuilder, LogLevel } from '@microsoft/signalr';
import { MessagePackHubProtocol } from '@microsoft/signalr-protocol-msgpack';
import { DEADLINE, Log, StockClient, differsOn31, within } from './helpers.mjs';

/** The URL of a hub of the conformance server, of which `TEST_HUB_URL` is the origin. */
export function testHub(path = 'testHub') {
  const url = process.env.TEST_HUB_URL;
  if (!url) throw new Error('set TEST_HUB_URL to the server with the conformance hub, for example http://127.0.0.1:5000');
  return `${url.replace(/\/$/, '')}/${path}`;
}

const { WebSockets, ServerSentEvents, LongPolling } = HttpTransportType;

/** Every transport with every encoding that it can carry; `name` is for the names of tests, `skip` for their options. */
export const WAYS = [WebSockets, ServerSentEvents, LongPolling].flatMap((transport) => {
  const way = (encoding, packed, skip) => ({ name: `${HttpTransportType[transport]}, ${encoding}`, transport, packed, skip });
  const json = way('JSON', false, false);
  return transport === ServerSentEvents ? [json] : [json, way('MessagePack', true, differsOn31('the peer has no MessagePack'))];
});

/** A text that no other test says. */
export const unique = (what) => `${what} ${randomUUID()}`;

/** A stock client of the conformance hub. */
export class TestClient extends StockClient {
  /** Builds a client that is stopped when the test ends; not started yet. `http` are options of `withUrl`. */
  static create(t, { url = testHub(), transport, packed = false, http = {} } = {}) {
    const builder = new HubConnectionBuilder().withUrl(url, { transport, ...http }).configureLogging(LogLevel.None);
    if (packed) builder.withHubProtocol(new MessagePackHubProtocol());
    const client = new TestClient(builder.build());
    // Calls of other tests reach everybody; the client would warn of those that it does not know.
    for (const method of ['Message', 'Disconnected']) client.connection.on(method, () => {});
    t.after(() => client.stop());
    return client;
  }

  send(method, ...values) {
    return within(this.connection.send(method, ...values), `handing over ${method}`);
  }

  /** Whatever the server calls `method` with, as lists of arguments. */
  calls(method) {
    const log = new Log();
    this.connection.on(method, (...values) => log.push(values));
    return log;
  }

  stream(method, ...values) {
    return new Streamed(this.connection.stream(method, ...values), method);
  }
}

/** A stream of the server, read by a stock client. */
export class Streamed {
  items = new Log();

  constructor(stream, method) {
    this.method = method;
    this.ended = new Promise((complete, error) => {
      this.subscription = stream.subscribe({ next: (item) => this.items.push(item), complete, error });
    });
    this.ended.catch(() => {}); // of interest only to tests that ask
  }

  /** Everything it brought, once it has ended; fails as the stream does. */
  async all(ms = DEADLINE) {
    await within(this.ended, `the end of the stream ${this.method}`, ms);
    return this.items.items;
  }

  /** Tells the server that nobody reads any more. */
  cancel() {
    this.subscription.dispose();
  }
}
