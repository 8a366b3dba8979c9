// What every test here shares: deadlines instead of sleeps, and stock clients that clean up after themselves.

import { randomUUID } from 'node:crypto';
import { HubConnectionBuilder, LogLevel } from '@microsoft/signalr';

/** How long anything that should happen at once may take, in milliseconds; generous, because the machine may be busy compiling. */
export const DEADLINE = 10_000;

/** The URL of the chat hub under test. */
export function hubUrl() {
  const url = process.env.HUB_URL;
  if (!url) throw new Error('set HUB_URL to the chat hub under test, for example http://127.0.0.1:8080/chatHub');
  return url;
}

/** A reason to skip when the suite runs against ASP.NET Core 3.1 (PEER=aspnet31), which differs here from its newer versions. */
export function differsOn31(reason) {
  return process.env.PEER === 'aspnet31' ? reason : false;
}

/** Waits for a promise, but not for ever; `what` names the thing in the error (a function is called when it is needed). */
export async function within(promise, what, ms = DEADLINE) {
  let timer;
  const late = new Promise((_, reject) => {
    const fail = () => reject(new Error(`${typeof what === 'function' ? what() : what}: not within ${ms} ms`));
    timer = setTimeout(fail, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Things that happened, in order, and a way to wait for more of them. */
export class Log {
  items = [];
  #waiting = new Set();

  push(item) {
    this.items.push(item);
    for (const check of this.#waiting) check();
  }

  /** Resolves with what `find(items)` returns, as soon as that is anything but false, null or undefined. */
  until(find, what, ms = DEADLINE) {
    const found = () => {
      const value = find(this.items);
      return value === false || value === null || value === undefined ? undefined : { value };
    };
    let check;
    const seen = new Promise((resolve, reject) => {
      check = () => {
        try {
          const now = found();
          if (now) resolve(now.value);
        } catch (error) {
          reject(error);
        }
      };
      this.#waiting.add(check);
      check();
    });
    const explain = () => `${what} (seen ${this.items.length}, the last: ${shorten(this.items.slice(-3))})`;
    return within(seen, explain, ms).finally(() => this.#waiting.delete(check));
  }

  /** Resolves with the first `count` items. */
  first(count, what = `${count} items`, ms = DEADLINE) {
    return this.until((items) => items.length >= count && items.slice(0, count), what, ms);
  }
}

/** A value as text that fits into an error message. */
export function shorten(value, most = 400) {
  const text = JSON.stringify(value, (_, v) => (v instanceof Error ? `${v.name}: ${v.message}` : v)) ?? String(value);
  return text.length > most ? `${text.slice(0, most)}… (${text.length} characters)` : text;
}

/** A room that no other test uses, so that tests can share a server. */
export const newRoom = () => `room ${randomUUID()}`;

/** A stock client, with deadlines for all it does. */
export class StockClient {
  /** The errors (or undefined) that `onclose` was called with. */
  closed = new Log();

  constructor(connection) {
    this.connection = connection;
    connection.onclose((error) => this.closed.push({ error }));
  }

  /** Builds a client as `create` of its class does, and starts it. */
  static async start(t, options) {
    const client = this.create(t, options);
    await client.start();
    return client;
  }

  get id() {
    return this.connection.connectionId;
  }

  start() {
    return within(this.connection.start(), 'starting a connection');
  }

  stop() {
    return within(this.connection.stop(), 'stopping a connection');
  }

  invoke(method, ...values) {
    return within(this.connection.invoke(method, ...values), `the completion of ${method}`);
  }
}

/** A stock client of the chat hub: the connection, what it received, and how it ended. */
export class ChatClient extends StockClient {
  /** Every `ReceiveMessage` as `[user, message]`. */
  inbox = new Log();

  constructor(connection) {
    super(connection);
    connection.on('ReceiveMessage', (user, message) => this.inbox.push([user, message]));
  }

  /**
   * Builds a client that is stopped when the test ends; not started yet.
   * `http` are the options of `withUrl`, `build` may add to the builder.
   */
  static create(t, { url = hubUrl(), http = {}, build = (builder) => builder } = {}) {
    const builder = build(new HubConnectionBuilder().withUrl(url, http).configureLogging(LogLevel.None));
    const client = new ChatClient(builder.build());
    t.after(() => client.stop());
    return client;
  }

  join(room) {
    return this.invoke('JoinRoom', room);
  }

  leave(room) {
    return this.invoke('LeaveRoom', room);
  }

  say(room, user, message) {
    return this.invoke('SendMessage', room, user, message);
  }
}

/** What a room's members are told when somebody comes or goes. */
export const joined = (id, room) => ['System', `${id} has joined the room ${room}`];
export const left = (id, room) => ['System', `${id} has left the room ${room}`];
