// Asking stock clients for results, reaching users, and what a hub knows of its callers; on the conformance hub.

import assert from 'node:assert/strict';
import test from 'node:test';
import { randomUUID } from 'node:crypto';
import { HttpTransportType } from '@microsoft/signalr';
import { MessagePackHubProtocol } from '@microsoft/signalr-protocol-msgpack';
import { ChatClient, Log, differsOn31, within } from './helpers.mjs';

const skip = differsOn31('client results came with 7.0');

function testHub() {
  const url = process.env.TEST_HUB_URL;
  if (!url) throw new Error('set TEST_HUB_URL to where the conformance hub is, for example http://127.0.0.1:5000');
  return `${url}/testHub`;
}

const KINDS = [
  ['WebSockets', 'JSON', HttpTransportType.WebSockets, false],
  ['WebSockets', 'MessagePack', HttpTransportType.WebSockets, true],
  ['Server-Sent Events', 'JSON', HttpTransportType.ServerSentEvents, false],
  ['Long Polling', 'MessagePack', HttpTransportType.LongPolling, true],
];

/** A client of a user, with methods that answer. */
function start(t, transport, packed, user = randomUUID()) {
  return ChatClient.start(t, {
    url: `${testHub()}?user=${user}`,
    http: { transport, headers: { 'X-Device': 'phone' } },
    build: (builder) => {
      if (packed) builder.withHubProtocol(new MessagePackHubProtocol());
      return builder;
    },
  });
}

const failed = (method, detail) => ({ message: `An unexpected error occurred invoking '${method}' on the server.${detail}` });

for (const [name, encoding, transport, packed] of KINDS) {
  const over = `over ${name} in ${encoding}`;

  test(`a client gives what another asks it for, ${over}`, { skip }, async (t) => {
    const caller = await start(t, transport, packed);
    // In the other encoding, so that what it answers is read and written anew.
    const asked = await start(t, HttpTransportType.WebSockets, !packed);
    asked.connection.on('Double', (value) => value * 2);
    asked.connection.on('Later', async (value) => ({ later: [value, null] }));
    asked.connection.on('Nothing', () => {});
    asked.connection.on('Fail', () => Promise.reject(new Error('not today')));
    asked.connection.on('Never', () => new Promise(() => {}));
    const ask = (method, value) => caller.invoke('InvokeClient', asked.id, method, value);
    assert.equal(await ask('Double', 21), 42);
    assert.deepEqual(await ask('later', 'x'), { later: ['x', null] });
    await assert.rejects(ask('Fail', 1), failed('InvokeClient', ' HubException: Error: not today'));
    for (const method of ['Nothing', 'Unknown']) {
      await assert.rejects(ask(method, 1), failed('InvokeClient', " HubException: Client didn't provide a result."));
    }
    await assert.rejects(
      caller.invoke('InvokeClientTimeout', asked.id, 'Never', 1, 50),
      failed('InvokeClientTimeout', ' HubException: Invocation canceled by the server.'),
    );
    await assert.rejects(caller.invoke('InvokeClient', 'nobody', 'Double', 1), failed('InvokeClient', ''));

    const asking = new Log();
    asked.connection.on('Leave', () => (asking.push(true), new Promise(() => {})));
    const left = assert.rejects(ask('Leave', 1), failed('InvokeClient', ''));
    await asking.first(1, 'the question');
    await asked.stop();
    await left;
  });

  test(`a method may ask its own caller, at default options, ${over}`, { skip }, async (t) => {
    const caller = await start(t, transport, packed);
    caller.connection.on('Double', (value) => value * 2);
    const answers = [1, 2, 3].map((value) => caller.invoke('InvokeCaller', 'Double', value));
    assert.deepEqual(await Promise.all(answers), [2, 4, 6]);
  });

  test(`messages to a user reach all of its connections, ${over}`, { skip }, async (t) => {
    const [ada, bob] = [randomUUID(), randomUUID()];
    const clients = [await start(t, transport, packed, ada), await start(t, transport, packed, ada), await start(t, transport, packed, bob)];
    const inboxes = clients.map((client) => {
      const inbox = new Log();
      client.connection.on('Message', (text) => inbox.push(text));
      return inbox;
    });
    await clients[2].invoke('SendToUser', ada, 'to ada');
    await clients[2].invoke('SendToUser', ada.toUpperCase(), 'to nobody');
    await clients[2].invoke('SendToUsers', [bob, '', ada], 'to both');
    assert.deepEqual(await inboxes[0].first(2), ['to ada', 'to both']);
    assert.deepEqual(await inboxes[1].first(2), ['to ada', 'to both']);
    assert.deepEqual(await inboxes[2].first(1), ['to both']);
  });

  test(`the hub knows the request that a connection began with, ${over}`, { skip }, async (t) => {
    const user = randomUUID();
    const client = await start(t, transport, packed, user);
    assert.equal(await client.invoke('GetUserIdentifier'), user);
    assert.equal(await client.invoke('GetQuery', 'USER'), user);
    assert.equal(await client.invoke('GetQuery', 'nothing'), null);
    assert.equal(await client.invoke('GetHeader', 'x-device'), 'phone');
    assert.equal(await client.invoke('GetActiveTransportName'), HttpTransportType[transport]);
    await client.invoke('SetItem', 'key', { a: [1] });
    assert.deepEqual(await client.invoke('GetItem', 'key'), { a: [1] });
    assert.equal(await client.invoke('GetItem', 'another'), null);
    assert.equal(await (await start(t, transport, packed)).invoke('GetItem', 'key'), null);
  });

  test(`an aborted client is closed without an error, ${over}`, { skip }, async (t) => {
    const client = await start(t, transport, packed);
    client.connection.invoke('Abort').catch(() => {}); // its answer need not come
    const [{ error }] = await within(client.closed.first(1), 'the end of the connection');
    assert.equal(error, undefined);
  });
}
