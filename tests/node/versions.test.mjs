// Clients of every version since 3.1, each over every transport, in JSON and with its own MessagePack.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { allVersions as versions } from './all-versions.mjs';
import { Log, differsOn31, within } from './helpers.mjs';
import { testHub, unique } from './testhub.mjs';

const noMessagePack = differsOn31('the peer has no MessagePack');

test('the versions are the ones that the packages promise', () => {
  const majors = (name) => versions.map((version) => name(version).split('.')[0]);
  assert.deepEqual(majors(({ signalr }) => signalr.VERSION), ['3', '5', '6', '7', '8', '9', '10']);
  assert.deepEqual(majors(({ VERSION }) => VERSION), ['3', '5', '6', '7', '8', '9', '10']);
});

class Client {
  closed = new Log();
  heard = new Log();

  constructor({ signalr, MessagePackHubProtocol }, { transport, packed, reconnects = false }) {
    const builder = new signalr.HubConnectionBuilder().withUrl(testHub(), { transport }).configureLogging(signalr.LogLevel.None);
    if (packed) builder.withHubProtocol(new MessagePackHubProtocol());
    if (reconnects) builder.withAutomaticReconnect([0, 50, 50, 50]);
    this.connection = builder.build();
    this.connection.on('Message', (text) => this.heard.push(text));
    this.connection.onclose((error) => this.closed.push({ error }));
  }

  static async start(t, version, options) {
    const client = new Client(version, options);
    t.after(() => within(client.connection.stop(), 'stopping a connection'));
    await within(client.connection.start(), 'starting a connection');
    return client;
  }

  invoke(method, ...values) {
    return within(this.connection.invoke(method, ...values), `the completion of ${method}`);
  }

  /** All items of a stream of the server. */
  stream(method, ...values) {
    const items = [];
    const all = new Promise((resolve, reject) => {
      this.connection.stream(method, ...values).subscribe({ next: (item) => items.push(item), complete: () => resolve(items), error: reject });
    });
    return within(all, `the end of the stream ${method}`);
  }
}

for (const version of versions) {
  const { signalr } = version;
  const { WebSockets, ServerSentEvents, LongPolling } = signalr.HttpTransportType;
  const ways = [[WebSockets, false], [WebSockets, true], [ServerSentEvents, false], [LongPolling, false], [LongPolling, true]];

  describe(`client ${signalr.VERSION}`, () => {
    for (const [transport, packed] of ways) {
      const over = `${signalr.HttpTransportType[transport]}, ${packed ? `MessagePack ${version.VERSION}` : 'JSON'}`;
      const options = { skip: packed && noMessagePack };
      const start = (t, more) => Client.start(t, version, { transport, packed, ...more });

      test(`calls, and is told of failures over ${over}`, options, async (t) => {
        const client = await start(t);
        assert.equal(await client.invoke('Echo', 'é🦀 \u2028'), 'é🦀 \u2028');
        assert.equal(await client.invoke('Add', 40, 2), 42);
        assert.equal(await client.invoke('VoidMethod'), null);
        assert.equal(await client.invoke('GetActiveTransportName'), signalr.HttpTransportType[transport]);
        assert.deepEqual(await client.invoke('EchoObject', { a: [1, null, { b: 'c' }] }), { a: [1, null, { b: 'c' }] });
        await assert.rejects(client.invoke('Nothing', 1), {
          message: "Failed to invoke 'Nothing' due to an error on the server. HubException: Method does not exist.",
        });
        await assert.rejects(client.invoke('ThrowHubException', 'shown'), {
          message: "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: shown",
        });
        assert.equal(await client.invoke('Echo', 'still here'), 'still here');
        assert.deepEqual(client.closed.items, []);
      });

      test(`talks in a group, leaves and stops over ${over}`, options, async (t) => {
        const [ann, bob] = [await start(t), await start(t)];
        const group = unique('group');
        const [first, second, third] = ['first', 'second', 'third'].map(unique);
        for (const client of [ann, bob]) await client.invoke('JoinGroup', group);
        await ann.invoke('CallGroup', group, first);
        await bob.connection.send('CallOthersInGroup', group, second);
        await ann.heard.until((items) => items.includes(second), 'what is not awaited');
        await bob.invoke('LeaveGroup', group);
        await ann.invoke('CallGroup', group, third);
        const own = ({ heard }) => heard.items.filter((text) => [first, second, third].includes(text));
        assert.deepEqual(await ann.heard.until((items) => items.includes(third) && own(ann), 'the last'), [first, second, third]);
        assert.equal(await bob.invoke('Echo', 'left'), 'left');
        assert.deepEqual(own(bob), [first]);
        await within(ann.connection.stop(), 'stopping');
        assert.deepEqual(await ann.closed.first(1, 'onclose'), [{ error: undefined }]);
        assert.equal(await bob.invoke('Echo', 'still here'), 'still here');
      });

      test(`streams both ways over ${over}`, options, async (t) => {
        const client = await start(t);
        assert.deepEqual(await client.stream('Stream'), ['a', 'b', 'c']);
        assert.deepEqual(await client.stream('Counter', 100, 0), Array.from({ length: 100 }, (_, i) => i));
        await assert.rejects(client.stream('StreamHubExceptionMidway', 2, 'shown'), {
          message: 'An error occurred on the server while streaming results. HubException: shown',
        });
        const cancelled = new Log();
        client.connection.on('StreamCanceled', () => cancelled.push(true));
        const endless = client.connection.stream('InfiniteStream').subscribe({ next() {}, complete() {}, error() {} });
        assert.equal(await client.invoke('Echo', 'beside it'), 'beside it');
        endless.dispose();
        await cancelled.first(1, 'StreamCanceled');

        const subject = new signalr.Subject();
        const joined = client.invoke('PrefixedConcat', '<', subject, '>');
        for (let i = 0; i < 50; i++) subject.next(`${i},`);
        subject.complete();
        assert.equal(await joined, `<${Array.from({ length: 50 }, (_, i) => `${i},`).join('')}>`);
        const echoed = new signalr.Subject();
        const echo = client.stream('StreamEcho', echoed);
        for (const text of ['a', 'b']) echoed.next(text);
        echoed.complete();
        assert.deepEqual(await echo, ['echo:a', 'echo:b']);
      });

      test(`takes twenty kilobytes and fifty messages over ${over}, in order`, options, async (t) => {
        const client = await start(t);
        const own = unique('own');
        const texts = ['é'.repeat(10 * 1024), ...Array.from({ length: 50 }, (_, i) => String(i))].map((text) => own + text);
        const sends = texts.map((text) => client.connection.send('CallCaller', text));
        await within(Promise.all(sends), 'handing over the messages');
        const heard = (items) => items.filter((text) => text.startsWith(own));
        assert.deepEqual(await client.heard.until((items) => heard(items).length >= texts.length && heard(items), 'all of them'), texts);
      });

      test(`is told why the server ends its connection over ${over}`, options, async (t) => {
        const client = await start(t);
        await assert.rejects(client.invoke('Echo', 'x'.repeat(33 * 1024)));
        const [end] = await client.closed.first(1, 'onclose');
        assert.equal(end.error?.message, 'Server returned an error on close: Connection closed with an error.');
      });

      test(`comes back by itself over ${over}, with a new id`, options, async (t) => {
        const client = await start(t, { reconnects: true });
        const back = new Log();
        client.connection.onreconnected((id) => back.push(id));
        const before = client.connection.connectionId;
        await assert.rejects(client.invoke('Echo', 'x'.repeat(33 * 1024)));
        const [id] = await back.first(1, 'onreconnected');
        assert.ok(id && id !== before);
        assert.equal(await client.invoke('GetCallerConnectionId'), id);
        assert.deepEqual(client.closed.items, []);
      });

      if (Number.parseInt(signalr.VERSION, 10) >= 7) {
        test(`gives results to the server over ${over}`, { skip: options.skip || differsOn31('the method is newer than 3.1') }, async (t) => {
          const client = await start(t);
          client.connection.on('Ask', (value) => `answer to ${value}`);
          assert.equal(await client.invoke('InvokeCaller', 'Ask', 'a question'), 'answer to a question');
          await assert.rejects(client.invoke('InvokeCaller', 'Missing', 1), /HubException: Client didn't provide a result\.$/);
        });
      }
    }
  });
}

test('clients of all versions, transports and encodings share a group', async (t) => {
  const group = unique('group');
  const clients = await Promise.all(versions.flatMap((version) => {
    const { WebSockets, ServerSentEvents, LongPolling } = version.signalr.HttpTransportType;
    const ways = [[WebSockets, false], [ServerSentEvents, false], [LongPolling, false], ...(noMessagePack ? [] : [[WebSockets, true], [LongPolling, true]])];
    return ways.map(([transport, packed]) => Client.start(t, version, { transport, packed }));
  }));
  await Promise.all(clients.map((client) => client.invoke('JoinGroup', group)));
  const texts = clients.map((_, i) => `${group} ${i}`).sort();
  await Promise.all(clients.map((client, i) => client.invoke('CallGroup', group, `${group} ${i}`)));
  for (const [i, { heard }] of clients.entries()) {
    const own = (items) => items.filter((text) => text.startsWith(group));
    const all = await heard.until((items) => own(items).length >= texts.length && own(items), `client ${i} hears all`);
    assert.deepEqual(all.sort(), texts);
  }
});
