// Every method of the conformance hub through the stock client, over every transport and in every encoding.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HttpTransportType, HubConnectionState, Subject } from '@microsoft/signalr';
import { differsOn31, within } from './helpers.mjs';
import { RawHub, completion, invocation, record } from './raw.mjs';
import { TestClient, WAYS, testHub, unique } from './testhub.mjs';

const beyond31 = differsOn31('the method is newer than 3.1');

const GUID = 'c2a3dbb1-4b1c-4b9e-8f0b-2f6f5d3e8a01';
const ZERO_GUID = '00000000-0000-0000-0000-000000000000';
const MOMENT = '2023-11-14T22:13:20.123Z';
const BYTES = Uint8Array.of(0, 1, 127, 128, 255);

const base64 = (bytes) => Buffer.from(bytes).toString('base64');
/** A list of bytes as an encoding shows it: MessagePack has a type for it, JSON takes base64. */
const bytes = ({ packed }, value) => (packed ? Uint8Array.from(value) : base64(value));
/** A moment: MessagePack has an extension for it, JSON takes text. */
const moment = ({ packed }, text) => (packed ? new Date(text) : text);
/** The members of an object of .NET: as they are declared in MessagePack, in camelCase in JSON. */
function members({ packed }, object) {
  if (packed) return object;
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name[0].toLowerCase() + name.slice(1), value]));
}

/** Values that come back as they went, by method. */
const echoes = (way) => ({
  Echo: ['', 'plain', 'é🦀 \u2028 "\\" <&>+', '\0\x1e\x7f', 'x'.repeat(20_000), null],
  EchoLong: [0, -1, 127, 128, 255, 256, 65536, 2 ** 31, -(2 ** 31) - 1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
  EchoDouble: [0, 1, -1.5, 0.1, 1e21, 1e-7, Number.MAX_VALUE, Number.MIN_VALUE, 2 ** 53],
  EchoBool: [true, false],
  EchoNullableInt: [null, 0, -5, 2147483647, -2147483648],
  EchoObject: [null, true, 'text', 1, -1, 1.5, [], {}, [1, [2, { three: null }]], { B: { a: [false, 'é'] }, a: 1 }],
  EchoEnum: way.packed ? ['Red', 'Green', 'Blue'] : [0, 1, 2, 7],
  EchoList: [[], ['a', '', 'é'], null],
  EchoDictionary: [{}, { a: 1, B: -2, 'é ': 3 }, null],
  EchoBytes: [bytes(way, []), bytes(way, BYTES), null],
  EchoDate: ['2000-01-01T00:00:00Z', MOMENT, '1969-12-31T23:59:59Z', '2106-02-07T06:28:16Z', '9999-12-31T23:59:59Z'].map((text) => moment(way, text)),
  EchoGuid: [GUID, ZERO_GUID],
  DelayedEcho: [],
  ValueTaskInt: [0, 42, -7],
});

for (const way of WAYS) {
  const start = (t, more) => TestClient.start(t, { ...way, ...more });
  /**
   * Several clients, started one after the other, each with what it is told by `Message`. They call everybody, so they do it on a hub
   * where nobody minds.
   */
  async function people(t, count) {
    const clients = [];
    for (let i = 0; i < count; i++) {
      const client = await start(t, { url: testHub('testHubDetailed') });
      client.heard = client.calls('Message');
      clients.push(client);
    }
    return clients;
  }
  /** What clients have heard since the last time when everybody has heard what nobody else says: who was left out, and who was not. */
  async function hearing(clients, texts) {
    const end = unique('end');
    await clients[0].invoke('CallAll', end);
    const heard = [];
    for (const [i, { heard: log }] of clients.entries()) {
      const all = await log.until((items) => items.some(([text]) => text === end) && items, `client ${i} hears the end`);
      heard.push(all.map(([text]) => text).filter((text) => texts.includes(text)).sort());
    }
    return heard;
  }

  describe(`over ${way.name}`, { skip: way.skip }, () => {
    for (const [method, values] of Object.entries(echoes(way))) {
      if (values.length === 0) continue;
      test(`${method} gives back what it got`, async (t) => {
        const client = await start(t);
        for (const value of values) assert.deepEqual(await client.invoke(method, value), value);
      });
    }

    test('EchoComplexObject gives an object back, members that are missing with their defaults', async (t) => {
      const client = await start(t);
      const whole = { String: 'é', IntArray: [1, -2], ByteArray: bytes(way, BYTES), Guid: GUID, DateTime: moment(way, MOMENT) };
      const defaults = { String: null, IntArray: null, ByteArray: null, Guid: ZERO_GUID, DateTime: moment(way, '0001-01-01T00:00:00') };
      if (way.packed) defaults.DateTime = new Date('0001-01-01T00:00:00Z');
      assert.deepEqual(await client.invoke('EchoComplexObject', whole), members(way, whole));
      assert.deepEqual(await client.invoke('EchoComplexObject', members(way, whole)), members(way, whole));
      assert.deepEqual(await client.invoke('EchoComplexObject', {}), members(way, defaults));
      assert.deepEqual(await client.invoke('EchoComplexObject', members(way, { String: 'x' })), members(way, { ...defaults, String: 'x' }));
      assert.deepEqual(await client.invoke('EchoComplexObject', { Unknown: [1], other: { String: 'y' } }), members(way, defaults));
      assert.equal(await client.invoke('EchoComplexObject', null), null);
    });

    test('SendComplexObject sends every kind of member', async (t) => {
      const client = await start(t);
      const expected = {
        String: 'hello world',
        IntArray: [1, 2, 3],
        ByteArray: bytes(way, [1, 2, 3]),
        Guid: '00010203-0405-0607-0706-050403020100',
        DateTime: moment(way, '2000-01-01T00:00:00Z'),
      };
      assert.deepEqual(await client.invoke('SendComplexObject'), members(way, expected));
    });

    for (const method of ['VoidMethod', 'TaskMethod', 'ValueTaskMethod', 'NullResult']) {
      test(`${method} completes with null`, async (t) => {
        assert.equal(await (await start(t)).invoke(method), null);
      });
    }

    test('Add adds, and BigString is as long as it was asked for', async (t) => {
      const client = await start(t);
      assert.equal(await client.invoke('Add', 2, 40), 42);
      assert.equal(await client.invoke('Add', -2, 1), -1);
      for (const size of [0, 1, 32_768, 100_000, 1_000_000]) {
        assert.ok((await client.invoke('BigString', size)) === 'x'.repeat(size), `BigString(${size}) changed`);
      }
    });

    test('a default value of a parameter is never used', async (t) => {
      const client = await start(t);
      assert.equal(await client.invoke('OptionalArg', 'a', 'b'), 'ab');
      await assert.rejects(client.invoke('OptionalArg', 'a'), { message: "Failed to invoke 'OptionalArg' due to an error on the server." });
    });

    test('a method may have another name, and only that one; what is not a hub method does not exist', async (t) => {
      const client = await start(t);
      assert.equal(await client.invoke('renamed'), 'renamed-result');
      assert.equal(await client.invoke('RENAMED'), 'renamed-result');
      for (const method of ['OriginalName', 'StaticMethod', 'InternalMethod', 'OnConnectedAsync', 'Dispose', 'ToString', 'GetHashCode', 'get_Context']) {
        const message = `Failed to invoke '${method}' due to an error on the server. HubException: Method does not exist.`;
        await assert.rejects(client.invoke(method), { message });
      }
    });

    test('names of methods are found in any case', async (t) => {
      const client = await start(t);
      assert.equal(await client.invoke('eCHO', 'x'), 'x');
      assert.equal(await client.invoke('streamingconcat', from(['a', 'b'])), 'ab');
      assert.deepEqual(await client.stream('STREAM').all(), ['a', 'b', 'c']);
    });

    test('DelayedEcho answers later, and calls behind it in order', async (t) => {
      const client = await start(t);
      const order = [];
      const calls = [client.invoke('DelayedEcho', 'slow', 200), client.invoke('Echo', 'fast')];
      await Promise.all(calls.map(async (call) => order.push(await call)));
      assert.deepEqual(order, ['slow', 'fast']);
    });

    test('a connection knows its id, its transport, its query, its headers, and that nobody is signed in', async (t) => {
      const url = `${testHub()}?theme=dark%20%26%20red&empty=`;
      const client = await start(t, { url, http: { headers: { 'X-Whatever': 'yes' } } });
      assert.equal(await client.invoke('GetCallerConnectionId'), client.id);
      assert.equal(await client.invoke('GetActiveTransportName'), HttpTransportType[way.transport]);
      assert.equal(await client.invoke('GetQuery', 'theme'), 'dark & red');
      assert.equal(await client.invoke('GetQuery', 'THEME'), 'dark & red');
      assert.equal(await client.invoke('GetQuery', 'empty'), '');
      assert.equal(await client.invoke('GetQuery', 'missing'), null);
      assert.equal(await client.invoke('GetHeader', 'X-Whatever'), 'yes');
      assert.equal(await client.invoke('GetHeader', 'x-whatever'), 'yes');
      assert.equal(await client.invoke('GetHeader', 'X-Missing'), null);
      assert.equal(await client.invoke('GetUserIdentifier'), null);
    });

    test('items belong to one connection and last as long as it', async (t) => {
      const [ann, bob] = [await start(t), await start(t)];
      await ann.invoke('SetItem', 'color', 'red');
      await ann.invoke('SetItem', 'Color', 'blue');
      assert.equal(await ann.invoke('GetItem', 'color'), 'red');
      assert.equal(await ann.invoke('GetItem', 'Color'), 'blue');
      assert.equal(await bob.invoke('GetItem', 'color'), null);
    });

    test('Abort ends its caller and nobody else, and those who watch are told', async (t) => {
      const [watcher, client, other] = [await start(t), await start(t), await start(t)];
      const gone = watcher.calls('Disconnected');
      await watcher.invoke('WatchDisconnects');
      const { id } = client;
      await client.send('Abort');
      await client.closed.first(1, 'onclose');
      assert.equal(client.connection.state, HubConnectionState.Disconnected);
      const told = await gone.until((items) => items.find(([who]) => who === id), 'the watcher is told');
      assert.deepEqual(told, [id, null]);
      assert.equal(await other.invoke('Echo', 'still here'), 'still here');
    });

    test('those who watch are told of a client that stops', async (t) => {
      const [watcher, client] = [await start(t), await start(t)];
      const gone = watcher.calls('Disconnected');
      await watcher.invoke('WatchDisconnects');
      const { id } = client;
      await client.stop();
      const told = await gone.until((items) => items.find(([who]) => who === id), 'the watcher is told');
      // 3.1 takes the goodbye of a newer client for an error.
      if (!differsOn31('the goodbye of a client is newer')) assert.deepEqual(told, [id, null]);
    });

    test('an exception hides its text, a HubException shows it', async (t) => {
      const client = await start(t);
      const failed = (method) => `An unexpected error occurred invoking '${method}' on the server.`;
      await assert.rejects(client.invoke('ThrowException', 'secret'), { message: failed('ThrowException') });
      await assert.rejects(client.invoke('ThrowHubException', 'shown é'), { message: `${failed('ThrowHubException')} HubException: shown é` });
      await assert.rejects(client.invoke('throwasync', 'later'), { message: `${failed('throwasync')} HubException: later` });
      assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });

    test('with detailed errors an exception shows its text and its name', async (t) => {
      const client = await start(t, { url: testHub('testHubDetailed') });
      const failed = (method) => `An unexpected error occurred invoking '${method}' on the server.`;
      const message = new RegExp(`^${failed('ThrowException').replaceAll('.', '\\.')} (\\w+): not so secret$`);
      await assert.rejects(client.invoke('ThrowException', 'not so secret'), { message });
      await assert.rejects(client.invoke('ThrowHubException', 'shown'), { message: `${failed('ThrowHubException')} HubException: shown` });
      await assert.rejects(client.invoke('OptionalArg', 'a'), {
        message: "Failed to invoke 'OptionalArg' due to an error on the server. InvalidDataException: Invocation provides 1 argument(s) but target expects 2.",
      });
      await assert.rejects(client.invoke('Nothing'), {
        message: "Failed to invoke 'Nothing' due to an error on the server. HubException: Method does not exist.",
      });
      await assert.rejects(client.stream('StreamThrowMidway', 1, 'detail').all(), {
        message: /^An error occurred on the server while streaming results\. (\w+): detail$/,
      });
    });

    // ---- Calls of the client's methods.

    test('what a method sends to its caller comes before its result', async (t) => {
      const client = await start(t);
      const before = client.calls('Before');
      assert.equal(await client.invoke('CallBackThenReturn', 'x'), 'x');
      assert.deepEqual(before.items, [['x']]);
    });

    test('arguments of every kind reach the client', async (t) => {
      const client = await start(t);
      const [many, none, message, custom] = ['ManyArgs', 'NoArgs', 'Message', 'CustomObject'].map((method) => client.calls(method));
      await client.invoke('CallBackManyArgs');
      await client.invoke('CallBackNoArgs');
      const text = unique('text');
      await client.invoke('InvokeWithString', text);
      await client.invoke('SendCustomObject', { Name: 'é', Value: 5 });
      await client.invoke('SendCustomObject', members(way, { Name: null, Value: -5 }));
      assert.deepEqual(many.items, [[1, 'two', 3.5, true, null, [1, 2], members(way, { A: 1 })]]);
      assert.deepEqual(none.items, [[]]);
      assert.deepEqual(message.items.filter(([said]) => said === text), [[text]]);
      assert.deepEqual(custom.items, [[members(way, { Name: 'é', Value: 5 })], [members(way, { Name: null, Value: -5 })]]);
    });

    test('CallAll, CallOthers, CallCaller and CallAllExcept reach whom they should', async (t) => {
      const clients = await people(t, 3);
      const [ann, bob, eve] = clients;
      const [all, others, caller, except, nobody] = ['all', 'others', 'caller', 'except', 'nobody'].map(unique);
      await ann.invoke('CallAll', all);
      await ann.invoke('CallOthers', others);
      await ann.invoke('CallCaller', caller);
      await ann.invoke('CallAllExcept', [bob.id, 'nobody'], except);
      await ann.invoke('CallAllExcept', [ann.id, bob.id, eve.id], nobody);
      assert.deepEqual(await hearing(clients, [all, others, caller, except, nobody]), [[all, caller, except], [all, others], [all, except, others]]);
    });

    test('CallClient and CallClients reach the connections that they name', async (t) => {
      const clients = await people(t, 3);
      const [ann, bob, eve] = clients;
      const [one, two, none, gone] = ['one', 'two', 'none', 'gone'].map(unique);
      await ann.invoke('CallClient', bob.id, one);
      await ann.invoke('CallClients', [ann.id, eve.id, 'nobody'], two);
      await ann.invoke('CallClients', [], none);
      await ann.invoke('CallClient', 'nobody', gone);
      assert.deepEqual(await hearing(clients, [one, two, none, gone]), [[two], [one], [two]]);
    });

    test('groups have the members who joined and did not leave, and their names have cases', async (t) => {
      const clients = await people(t, 3);
      const [ann, bob, eve] = clients;
      const group = unique('Group');
      for (const client of [ann, bob, bob]) await client.invoke('JoinGroup', group);
      const [both, others, except, wrong, after] = ['both', 'others', 'except', 'wrong', 'after'].map(unique);
      await eve.invoke('CallGroup', group, both);
      await ann.invoke('CallOthersInGroup', group, others);
      await eve.invoke('CallGroupExcept', group, [ann.id, 'nobody'], except);
      await eve.invoke('CallGroup', group.toUpperCase(), wrong);
      await bob.invoke('LeaveGroup', group);
      await bob.invoke('LeaveGroup', group);
      await eve.invoke('LeaveGroup', group);
      await eve.invoke('CallGroup', group, after);
      assert.deepEqual(await hearing(clients, [both, others, except, wrong, after]), [[after, both], [both, except, others], []]);
    });

    test('CallGroups reaches members of each, and those of two twice', async (t) => {
      const clients = await people(t, 3);
      const [ann, bob, eve] = clients;
      const [one, two, text] = ['one', 'two', 'text'].map(unique);
      for (const group of [one, two]) await ann.invoke('JoinGroup', group);
      await bob.invoke('JoinGroup', two);
      await eve.invoke('CallGroups', [one, two, unique('empty')], text);
      assert.deepEqual(await hearing(clients, [text]), [[text, text], [text], []]);
    });

    // ---- Streams; more of them in streams.test.mjs.

    test('streams bring their items in order, and end', async (t) => {
      const client = await start(t);
      assert.deepEqual(await client.stream('Stream').all(), ['a', 'b', 'c']);
      assert.deepEqual(await client.stream('EmptyStream').all(), []);
      assert.deepEqual(await client.stream('Counter', 500, 0).all(), Array.from({ length: 500 }, (_, i) => i));
      assert.deepEqual(await client.stream('Counter', 3, 5).all(), [0, 1, 2]);
      assert.deepEqual(await client.stream('Counter', 0, 0).all(), []);
      assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });

    test('a stream that nobody reads any more is cancelled', async (t) => {
      const client = await start(t);
      const cancelled = client.calls('StreamCanceled');
      const stream = client.stream('InfiniteStream');
      assert.equal(await client.invoke('Echo', 'beside it'), 'beside it');
      assert.deepEqual(cancelled.items, []);
      stream.cancel();
      assert.deepEqual(await cancelled.first(1, 'StreamCanceled'), [[]]);
      assert.deepEqual(stream.items.items, []);
      assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });

    test('streams fail before they begin, or midway', async (t) => {
      const client = await start(t);
      const early = (method) => `An unexpected error occurred invoking '${method}' on the server.`;
      const midway = 'An error occurred on the server while streaming results.';
      for (const [method, values, items, message] of [
        ['StreamThrowException', ['secret'], [], early('StreamThrowException')],
        ['StreamThrowHubException', ['shown'], [], `${early('StreamThrowHubException')} HubException: shown`],
        ['StreamThrowMidway', [3, 'secret'], [0, 1, 2], midway],
        ['StreamHubExceptionMidway', [2, 'shown'], [0, 1], `${midway} HubException: shown`],
        ['NullStream', [], [], "The value returned by the streaming method 'NullStream' is not a ChannelReader<> or IAsyncEnumerable<>."],
      ]) {
        const stream = client.stream(method, ...values);
        await assert.rejects(stream.all(), { message });
        assert.deepEqual(stream.items.items, items);
      }
      assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });

    test('methods take streams of the client', async (t) => {
      const client = await start(t);
      const done = client.calls('UploadDone');
      assert.equal(await client.invoke('StreamingConcat', from(['a', 'é', '', 'b'])), 'aéb');
      assert.equal(await client.invoke('StreamingSum', from([1, 2, -5])), -2);
      assert.equal(await client.invoke('PrefixedConcat', '<', from(['a', 'b']), '>'), '<ab>');
      assert.equal(await client.invoke('StreamingConcat', from([])), '');
      assert.deepEqual(await client.stream('StreamEcho', from(['a', 'b'])).all(), ['echo:a', 'echo:b']);
      assert.equal(await client.invoke('UploadThenNotify', from(['a', 'b', 'c'])), null);
      await client.send('UploadThenNotify', from(['a']));
      assert.deepEqual(await done.first(2, 'UploadDone twice'), [[3], [1]]);
    });

    // ---- Beyond 3.1.

    test('a client is asked for a result and gives it', { skip: beyond31 }, async (t) => {
      const [ann, bob] = [await start(t), await start(t)];
      bob.connection.on('Ask', async (value) => ({ value }));
      ann.connection.on('Own', (value) => `own ${value}`);
      assert.deepEqual(await ann.invoke('InvokeClient', bob.id, 'Ask', 'é'), { value: 'é' });
      assert.deepEqual(await ann.invoke('InvokeClient', bob.id, 'ask', [1, { b: null }]), { value: [1, { b: null }] });
      assert.equal(await ann.invoke('InvokeCaller', 'Own', 5), 'own 5');
      assert.equal(await ann.invoke('InvokeClientTimeout', bob.id, 'Ask', 'soon', 60_000).then(({ value }) => value), 'soon');
    });

    test('the error of a client is the error of the call that asked it', { skip: beyond31 }, async (t) => {
      const [ann, bob] = [await start(t), await start(t)];
      bob.connection.on('Fails', () => {
        throw new Error('not today é'); // this client sends the name along
      });
      bob.connection.on('Forgets', () => {});
      const failed = "An unexpected error occurred invoking 'InvokeClient' on the server. HubException: ";
      await assert.rejects(ann.invoke('InvokeClient', bob.id, 'Fails', 1), { message: `${failed}Error: not today é` });
      await assert.rejects(ann.invoke('InvokeClient', bob.id, 'Forgets', 1), { message: `${failed}Client didn't provide a result.` });
      await assert.rejects(ann.invoke('InvokeClient', bob.id, 'Missing', 1), { message: `${failed}Client didn't provide a result.` });
      const caller = "An unexpected error occurred invoking 'InvokeCaller' on the server. HubException: ";
      await assert.rejects(ann.invoke('InvokeCaller', 'Missing', 1), { message: `${caller}Client didn't provide a result.` });
      for (const client of [ann, bob]) assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });

    test('a connection that does not exist cannot be asked', { skip: beyond31 }, async (t) => {
      const client = await start(t);
      await assert.rejects(client.invoke('InvokeClient', 'nobody', 'Ask', 1), /^Error: An unexpected error occurred invoking 'InvokeClient' on the server\./);
      assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    });

    test('a server that waits for a result gives up in time, and when the client is gone', { skip: beyond31 }, async (t) => {
      const [ann, bob] = [await start(t), await start(t)];
      const asked = bob.calls('Asked');
      let answer;
      bob.connection.on('Ask', (value) => {
        bob.connection.send('Echo', ''); // shows that a client may go on while it thinks
        return new Promise((resolve) => (answer = () => resolve(value)));
      });
      await assert.rejects(ann.invoke('InvokeClientTimeout', bob.id, 'Ask', 1, 50), {
        message: "An unexpected error occurred invoking 'InvokeClientTimeout' on the server. HubException: Invocation canceled by the server.",
      });
      answer(); // too late, and nobody minds
      assert.equal(await bob.invoke('Echo', 'still here'), 'still here');

      bob.connection.on('Never', () => {
        bob.stop();
        return new Promise(() => {});
      });
      await assert.rejects(ann.invoke('InvokeClient', bob.id, 'Never', 1), /^Error: An unexpected error occurred invoking 'InvokeClient' on the server\./);
      assert.equal(await ann.invoke('Echo', 'still here'), 'still here');
      assert.deepEqual(asked.items, []);
    });

    test('LongRunning answers when nobody cancels it', { skip: beyond31 }, async (t) => {
      const client = await start(t);
      assert.equal(await client.invoke('LongRunning', 20), true);
    });

    test('SendToUser and SendToUsers reach every connection of a user', { skip: beyond31 }, async (t) => {
      const [ada, bea] = ['Ada é', 'bea'].map(unique);
      const loud = testHub('testHubDetailed');
      const as = (user) => start(t, { url: `${loud}?user=${encodeURIComponent(user)}` });
      const clients = [await as(ada), await as(ada), await as(bea), await start(t, { url: loud })];
      for (const client of clients) client.heard = client.calls('Message');
      assert.equal(await clients[0].invoke('GetUserIdentifier'), ada);
      const [one, two, wrong, none] = ['one', 'two', 'wrong', 'none'].map(unique);
      await clients[3].invoke('SendToUser', ada, one);
      await clients[3].invoke('SendToUsers', [ada, bea, 'nobody'], two);
      await clients[3].invoke('SendToUser', ada.toUpperCase(), wrong);
      await clients[3].invoke('SendToUser', '', none);
      assert.deepEqual(await hearing(clients, [one, two, wrong, none]), [[one, two], [one, two], [two], []]);
    });

    test('GetConnectionCount counts those who are here', { skip: beyond31 }, async (t) => {
      const clients = await people(t, 3);
      assert.ok((await clients[0].invoke('GetConnectionCount')) >= 3);
    });

    test('FloodCaller loses nothing and keeps the order', { skip: beyond31 }, async (t) => {
      const client = await start(t);
      const flood = client.calls('Flood');
      await client.invoke('FloodCaller', 300, 1000);
      const seen = await flood.first(300);
      assert.deepEqual(seen.map(([i, text]) => [i, text.length]), seen.map((_, i) => [i, 1000]));
    });

    test('bytes are binary in MessagePack and base64 in JSON', { skip: beyond31 }, async (t) => {
      const client = await start(t);
      const counting = Uint8Array.from({ length: 300 }, (_, i) => i % 256);
      assert.deepEqual(await client.invoke('GetBytes', 300), bytes(way, counting));
      assert.deepEqual(await client.invoke('GetBytes', 0), bytes(way, []));
      for (const value of [[], BYTES, counting]) assert.deepEqual(await client.invoke('EchoBinary', bytes(way, value)), bytes(way, value));
    });
  });
}

test('the hub without WebSockets offers the other two and refuses a WebSocket', { skip: differsOn31('that server has no such hub') }, async (t) => {
  const url = testHub('testHubNoWebSockets');
  const client = await TestClient.start(t, { url });
  assert.equal(await client.invoke('GetActiveTransportName'), 'ServerSentEvents');
  const packed = await TestClient.start(t, { url, packed: true });
  assert.equal(await packed.invoke('GetActiveTransportName'), 'LongPolling');
  const socket = TestClient.create(t, { url, transport: HttpTransportType.WebSockets });
  await assert.rejects(socket.start(), /not supported by the server|disabled|None of the transports/);
  const skipping = TestClient.create(t, { url, transport: HttpTransportType.WebSockets, http: { skipNegotiation: true } });
  await assert.rejects(skipping.start());
});

test('a client that skips the negotiation has no id, and everything works', async (t) => {
  const client = await TestClient.start(t, { transport: HttpTransportType.WebSockets, http: { skipNegotiation: true } });
  assert.ok(!client.id);
  assert.match(await client.invoke('GetCallerConnectionId'), /^[A-Za-z0-9_-]{22}$/);
  assert.deepEqual(await client.stream('Stream').all(), ['a', 'b', 'c']);
});

test('a running call can be cancelled: it stops at once, and has one completion', { skip: differsOn31('it came with version 11') }, async (t) => {
  const hub = await RawHub.open(t, { url: testHub() });
  hub.send(invocation('1', 'LongRunning', 60_000) + record({ type: 5, invocationId: '1' }));
  const seen = await hub.records(2);
  assert.deepEqual(seen.find(({ type }) => type === 1), { type: 1, target: 'Cancelled', arguments: [] });
  const { type, invocationId } = seen.find((one) => one.type === 3);
  assert.deepEqual([type, invocationId], [3, '1']);
  await hub.lives();
  hub.send(invocation('2', 'LongRunning', 1) + invocation('3', 'Echo', 'next'));
  assert.deepEqual(await hub.records(2), [completion('2', true), completion('3', 'next')]);
});

/** A stream of the client that brings these and ends. */
function from(values) {
  const subject = new Subject();
  // The client subscribes while it sends the call; what came before would be lost.
  queueMicrotask(() => {
    for (const value of values) subject.next(value);
    subject.complete();
  });
  return subject;
}
