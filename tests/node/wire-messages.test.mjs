// Hub messages as raw JSON: what is understood, what is answered with an error, and what ends the connection.

import assert from 'node:assert/strict';
import test from 'node:test';
import { differsOn31, newRoom } from './helpers.mjs';
import { RS, RawHub, completion, failure, invocation, record } from './raw.mjs';

const nonBlocking = (target, ...values) => record({ type: 1, target, arguments: values });
const nested = (depth) => '['.repeat(depth) + ']'.repeat(depth);

// ---- Messages that are fine. Each is followed by a call whose answer must be the next thing that arrives.

const ignored = {
  'a ping': '{"type":6}',
  'a ping with more in it': '{"type":6,"x":[1,{"type":1}],"y":null}',
  'blanks around a message': ' \r\n\t{ "type" : 6 } \n',
  'something behind the object of a record': '{"type":6} {"type":1}',
  'the completion of a call nobody made': '{"type":3,"invocationId":"1","result":5}',
  'the completion, without a result, of a call nobody made': '{"type":3,"invocationId":"1"}',
  'the failure of a call nobody made': '{"type":3,"invocationId":"1","error":"x"}',
  'an item of a stream nobody opened': '{"type":2,"invocationId":"1","item":null}',
  'the cancellation of a stream nobody opened': '{"type":5,"invocationId":"1"}',
  'a non-blocking call': '{"type":1,"target":"Echo","arguments":["x"]}',
  'a call with the empty id, which is non-blocking': '{"type":1,"invocationId":"","target":"Echo","arguments":["x"]}',
  'a non-blocking call of an unknown method': '{"type":1,"target":"Nothing","arguments":["x"]}',
  'a non-blocking call with too few arguments': '{"type":1,"target":"JoinRoom","arguments":[]}',
  'a non-blocking call with a wrong argument': '{"type":1,"target":"JoinRoom","arguments":[5]}',
  'a non-blocking call with a stream that the method does not take': '{"type":1,"target":"JoinRoom","arguments":["x"],"streamIds":["s"]}',
  'a structure of moderate depth in a property nobody knows': `{"type":6,"x":${nested(60)}}`,
};
for (const [what, text] of Object.entries(ignored)) {
  test(`${what} is not answered`, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(text + RS);
    await hub.lives();
  });
}

for (const type of [0, 10, 99, -1, 2147483647]) {
  const skip = differsOn31('it stops reading at an unknown message type');
  test(`an unknown message type ${type} is skipped`, { skip }, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(`{"type":${type},"x":{"y":[null]}}${RS}`);
    await hub.lives();
  });
}

for (const text of ['{"type":8,"sequenceId":1}', '{"type":9,"sequenceId":1}']) {
  const skip = differsOn31('it does not know the messages of stateful reconnect');
  test(`${text} means nothing on a connection without stateful reconnect`, { skip }, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(text + RS);
    await hub.lives();
  });
}

// ---- Ways to write a call. All of them are the call 1 of Echo with "x".

const ways = {
  'in the order of the clients': '{"type":1,"invocationId":"1","target":"Echo","arguments":["x"]}',
  'in reverse order': '{"arguments":["x"],"target":"Echo","invocationId":"1","type":1}',
  'with headers': '{"type":1,"headers":{"a":"b","":""},"invocationId":"1","target":"Echo","arguments":["x"]}',
  'with an empty list of streams': '{"type":1,"invocationId":"1","target":"Echo","arguments":["x"],"streamIds":[]}',
  'with properties nobody knows': '{"type":1,"x":{"type":6,"y":[1,2,{"z":null}]},"invocationId":"1","target":"Echo","arguments":["x"],"w":null}',
  'with properties in capitals, which nobody knows': '{"type":1,"Type":6,"invocationId":"1","target":"Echo","Target":"Nothing","arguments":["x"]}',
  'with the target twice, of which the last counts': '{"type":1,"invocationId":"1","target":"Nothing","target":"Echo","arguments":["x"]}',
  'with the id twice, of which the last counts': '{"type":1,"invocationId":"0","invocationId":"1","target":"Echo","arguments":["x"]}',
  'with the arguments twice, of which the last count': '{"type":1,"invocationId":"1","target":"Echo","arguments":["a"],"arguments":["x"]}',
  'with the type twice, of which the last counts': '{"type":6,"type":1,"invocationId":"1","target":"Echo","arguments":["x"]}',
  'with escapes in the names and the target': '{"t\\u0079pe":1,"invocationId":"\\u0031","target":"\\u0045cho","arguments":["\\u0078"]}',
  'with blanks everywhere': '\n{ "type" : 1 ,\t"invocationId" : "1" , "target" : "Echo" , "arguments" : [ "x" ] }\r\n',
};
for (const [how, text] of Object.entries(ways)) {
  test(`a call may be written ${how}`, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(text + RS);
    assert.deepEqual(await hub.record(), completion('1', 'x'));
    await hub.lives();
  });
}

for (const id of ['1', '-', 'x'.repeat(1000), 'é🦀"\\<\u2028 \u0000', '00', 'null']) {
  test(`the id ${JSON.stringify(id).slice(0, 40)} comes back as it was`, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(invocation(id, 'Echo', 'x'));
    assert.deepEqual(await hub.record(), completion(id, 'x'));
  });
}

test('an id that is in use twice is completed twice', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(invocation('1', 'Echo', 'a') + invocation('1', 'Echo', 'b'));
  assert.deepEqual(await hub.records(2), [completion('1', 'a'), completion('1', 'b')]);
});

// ---- What a server's own messages look like.

test('a completion has its fields and no others, with null as the result of a method without one', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(invocation('1', 'LeaveRoom', newRoom()));
  assert.deepEqual(await hub.record(), { type: 3, invocationId: '1', result: null });
});

test('a broadcast is a call without an id, and comes before the completion of the call that caused it', async (t) => {
  const room = newRoom();
  const hub = await RawHub.open(t);
  hub.send(invocation('1', 'JoinRoom', room));
  const [notice, done] = await hub.records(2);
  assert.deepEqual(Object.keys(notice).sort(), ['arguments', 'target', 'type']);
  assert.deepEqual([notice.type, notice.target, notice.arguments[0]], [1, 'ReceiveMessage', 'System']);
  assert.match(notice.arguments[1], new RegExp(`^\\S+ has joined the room ${room}$`));
  assert.deepEqual(done, completion('1', null));

  hub.send(invocation('2', 'SendMessage', room, 'me', 'a') + invocation('3', 'SendMessage', room, 'me', 'b') + invocation('4', 'LeaveRoom', room));
  const message = (text) => ({ type: 1, target: 'ReceiveMessage', arguments: ['me', text] });
  assert.deepEqual(await hub.records(5), [message('a'), completion('2', null), message('b'), completion('3', null), completion('4', null)]);
});

test('non-blocking calls do their work', async (t) => {
  const room = newRoom();
  const hub = await RawHub.open(t);
  hub.send(nonBlocking('JoinRoom', room) + nonBlocking('SendMessage', room, 'me', 'a') + nonBlocking('LeaveRoom', room));
  const [notice, message] = await hub.records(2);
  assert.equal(notice.arguments[0], 'System');
  assert.deepEqual(message.arguments, ['me', 'a']);
  await hub.lives();
});

// ---- Values, to the letter.

for (const text of ['9007199254740993', '-9007199254740993', '18446744073709551615', '123456789012345678901234567890', '1.0', '1.50', '1e3', '1E+3', '-0', '0.1000']) {
  const skip = differsOn31('the Echo of that server takes a string');
  test(`Echo gives the number ${text} back to the letter`, { skip }, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(`{"type":1,"invocationId":"1","target":"Echo","arguments":[${text}]}${RS}`);
    const { raw } = await hub.next('the completion');
    assert.equal(JSON.parse(raw).error, undefined, raw);
    assert.equal(/"result":\s*([^,}\s]+)/.exec(raw)?.[1], text, raw);
  });
}

test('Echo gives an object back with its keys in order, doubled ones too', { skip: differsOn31('the Echo of that server takes a string') }, async (t) => {
  const hub = await RawHub.open(t);
  const value = '{"b":1,"a":[1.0,{"z":null,"y":true}],"b":9007199254740993}';
  hub.send(`{"type":1,"invocationId":"1","target":"Echo","arguments":[${value}]}${RS}`);
  const { raw } = await hub.next('the completion');
  assert.ok(raw.includes(`"result":${value}`), raw);
});

test('escaped text means the same as plain text', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(`{"type":1,"invocationId":"1","target":"Echo","arguments":["\\u00e9\\ud83e\\udd80\\/\\n\\u0000\\u001e"]}${RS}`);
  assert.deepEqual(await hub.record(), completion('1', 'é🦀/\n\0\x1e'));
});

// ---- Errors that belong to one call.

const unbound = (method) => `Failed to invoke '${method}' due to an error on the server.`;
const errors = {
  'an unknown method': ['{"type":1,"invocationId":"1","target":"Nothing","arguments":["x"]}', `${unbound('Nothing')} HubException: Method does not exist.`],
  'too few arguments': ['{"type":1,"invocationId":"1","target":"SendMessage","arguments":["x"]}', unbound('SendMessage')],
  'too many arguments': ['{"type":1,"invocationId":"1","target":"Echo","arguments":["x","y"]}', unbound('Echo')],
  'an argument of the wrong kind': ['{"type":1,"invocationId":"1","target":"jOINrOOM","arguments":[{"a":1}]}', unbound('jOINrOOM')],
  'half a character in a text': ['{"type":1,"invocationId":"1","target":"JoinRoom","arguments":["a\\ud800b"]}', unbound('JoinRoom')],
  'a stream that the method does not take': [
    '{"type":1,"invocationId":"1","target":"Echo","arguments":["x"],"streamIds":["s"]}',
    "An unexpected error occurred invoking 'Echo' on the server. HubException: Client sent 1 stream(s), Hub method expects 0.",
  ],
  'a plain method called as a stream': [
    '{"type":4,"invocationId":"1","target":"eCho","arguments":["x"]}',
    "The client attempted to invoke the non-streaming 'eCho' method with a streaming invocation.",
  ],
  'an unknown method called as a stream': ['{"type":4,"invocationId":"1","target":"Nothing","arguments":[]}', `${unbound('Nothing')} HubException: Method does not exist.`],
  'a plain method called as a stream with too few arguments': ['{"type":4,"invocationId":"1","target":"Echo","arguments":[]}', unbound('Echo')],
};
for (const [what, [text, error]] of Object.entries(errors)) {
  test(`${what} fails the call and not the connection`, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(text + RS);
    assert.deepEqual(await hub.record(), failure('1', error));
    await hub.lives();
  });
}

test('bytes that are not UTF-8, in a binary message, fail the call whose argument they are in', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(Buffer.concat([Buffer.from('{"type":1,"invocationId":"1","target":"JoinRoom","arguments":["'), Buffer.from([0xff, 0xfe]), Buffer.from(`"]}${RS}`)]));
  assert.deepEqual(await hub.record(), failure('1', unbound('JoinRoom')));
  await hub.lives();
});

// ---- Messages that end the connection. A call sent right behind them is not answered any more.

const fatal = {
  'no JSON': 'garbage',
  'an empty record': '',
  'a message cut short': '{"type":1,',
  'a comment': '/*x*/{"type":6}',
  'a trailing comma': '{"type":6,}',
  'a list': '[{"type":6}]',
  'a text': '"x"',
  'a number': '6',
  'null': 'null',
  'a byte order mark': '\ufeff{"type":6}',
  'an empty object': '{}',
  'a message without a type': '{"target":"Echo","arguments":["x"]}',
  'a type that is a text': '{"type":"6"}',
  'a type that is null': '{"type":null}',
  'a type that is 6.0': '{"type":6.0}',
  'a type with an exponent': '{"type":6e0}',
  'a type that is true': '{"type":true}',
  'a type of more than 32 bits': '{"type":99999999999}',
  'an id that is null': '{"type":1,"invocationId":null,"target":"Echo","arguments":["x"]}',
  'an id that is a number': '{"type":1,"invocationId":1,"target":"Echo","arguments":["x"]}',
  'a target that is null': '{"type":1,"invocationId":"1","target":null,"arguments":["x"]}',
  'a target that is a number': '{"type":1,"invocationId":"1","target":3,"arguments":["x"]}',
  'a call without arguments': '{"type":1,"invocationId":"1","target":"Echo"}',
  'a non-blocking call without arguments': '{"type":1,"target":"Echo"}',
  'a call without arguments of an unknown method': '{"type":1,"invocationId":"1","target":"Nothing"}',
  'arguments that are null': '{"type":1,"invocationId":"1","target":"Echo","arguments":null}',
  'arguments that are an object': '{"type":1,"invocationId":"1","target":"Echo","arguments":{}}',
  'headers that are null': '{"type":1,"invocationId":"1","headers":null,"target":"Echo","arguments":["x"]}',
  'headers that are a list': '{"type":1,"invocationId":"1","headers":[],"target":"Echo","arguments":["x"]}',
  'a header that is a number': '{"type":1,"invocationId":"1","headers":{"a":1},"target":"Echo","arguments":["x"]}',
  'a header that is null': '{"type":1,"invocationId":"1","headers":{"a":null},"target":"Echo","arguments":["x"]}',
  'stream ids that are null': '{"type":1,"invocationId":"1","streamIds":null,"target":"Echo","arguments":["x"]}',
  'stream ids that are an object': '{"type":1,"invocationId":"1","streamIds":{},"target":"Echo","arguments":["x"]}',
  'a stream id that is a number': '{"type":1,"invocationId":"1","streamIds":[1],"target":"Echo","arguments":["x"]}',
  'a stream item without an item': '{"type":2,"invocationId":"1"}',
  'a stream item without an id': '{"type":2,"item":1}',
  'a stream item with the empty id': '{"type":2,"invocationId":"","item":1}',
  'a completion without an id': '{"type":3,"result":5}',
  'a completion with the empty id': '{"type":3,"invocationId":"","result":5}',
  'a completion with a result and an error': '{"type":3,"invocationId":"1","result":5,"error":"x"}',
  'a completion whose error is null': '{"type":3,"invocationId":"1","error":null}',
  'a completion whose error is a number': '{"type":3,"invocationId":"1","error":1}',
  'a stream call with the empty id': '{"type":4,"invocationId":"","target":"Echo","arguments":["x"]}',
  'a cancellation without an id': '{"type":5}',
  'a cancellation with the empty id': '{"type":5,"invocationId":""}',
  'a Close whose error is null': '{"type":7,"error":null}',
  'a Close whose allowReconnect is a number': '{"type":7,"allowReconnect":1}',
  'a structure deeper than 64 levels': `{"type":1,"invocationId":"1","target":"Echo","arguments":[${nested(64)}]}`,
  'a very deep structure in a property nobody knows': `{"type":6,"x":${nested(5000)}}`,
  'an argument that is no JSON number': '{"type":1,"invocationId":"1","target":"Echo","arguments":[01]}',
  'an argument that is NaN': '{"type":1,"invocationId":"1","target":"Echo","arguments":[NaN]}',
  'an unknown escape': '{"type":1,"invocationId":"1","target":"Echo","arguments":["\\x"]}',
  'a line break inside a text': '{"type":1,"invocationId":"1","target":"Echo","arguments":["a\nb"]}',
  'half a character in the target': '{"type":1,"invocationId":"1","target":"E\\ud800","arguments":["x"]}',
  'half a character in the id': '{"type":1,"invocationId":"\\ud800","target":"Echo","arguments":["x"]}',
};
for (const [what, text] of Object.entries(fatal)) {
  test(`${what} ends the connection`, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(text + RS, invocation('after', 'Echo', 'x'));
    await hub.connectionError();
  });
}

const fatalLater = {
  'a call without a target': ['{"type":1,"invocationId":"1","arguments":["x"]}', 'it answers with a completion'],
  'a call with the empty target': ['{"type":1,"invocationId":"1","target":"","arguments":["x"]}', 'it answers with a completion'],
  'a non-blocking call with the empty target': ['{"type":1,"target":"","arguments":["x"]}', 'it only logs that'],
  'a target in capitals, which is none': ['{"type":1,"invocationId":"1","Target":"Echo","arguments":["x"]}', 'it answers with a completion'],
  'a stream call without an id': ['{"type":4,"target":"Echo","arguments":["x"]}', 'its Close message sometimes does not get out'],
  'an Ack without a number': ['{"type":8}', 'it does not know that message'],
  'a Sequence without a number': ['{"type":9}', 'it does not know that message'],
  'a Sequence whose number is a text': ['{"type":9,"sequenceId":"1"}', 'it does not know that message'],
};
for (const [what, [text, reason]] of Object.entries(fatalLater)) {
  test(`${what} ends the connection`, { skip: differsOn31(reason) }, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(text + RS, invocation('after', 'Echo', 'x'));
    await hub.connectionError();
  });
}

test('calls before a bad message in the same payload are answered', async (t) => {
  const hub = await RawHub.open(t);
  hub.send(`${invocation('1', 'Echo', 'a')}${invocation('2', 'Echo', 'b')}garbage${RS}${invocation('3', 'Echo', 'c')}`);
  assert.deepEqual(await hub.records(2), [completion('1', 'a'), completion('2', 'b')]);
  await hub.connectionError();
});

test('a bad message of one client is not noticed by another', async (t) => {
  const [bad, good] = [await RawHub.open(t), await RawHub.open(t)];
  const room = newRoom();
  bad.send(invocation('1', 'JoinRoom', room));
  await bad.records(2);
  good.send(invocation('1', 'JoinRoom', room));
  await good.records(2);
  bad.send(`garbage${RS}`);
  await bad.record('the notice that another joined');
  await bad.connectionError();
  good.send(invocation('2', 'SendMessage', room, 'good', 'still here'));
  assert.deepEqual((await good.record()).arguments, ['good', 'still here']);
  assert.deepEqual(await good.record(), completion('2', null));
});

// ---- The client says goodbye.

for (const text of ['{"type":7}', '{"type":7,"error":"I have had enough"}', '{"type":7,"allowReconnect":true}']) {
  const skip = differsOn31('it does not expect a Close message from a client');
  test(`${text} from the client ends the connection in peace`, { skip }, async (t) => {
    const hub = await RawHub.open(t);
    hub.send(text + RS);
    // Whether the server still says goodbye is its own affair; it must not complain.
    let end = await hub.next('the end');
    if ('record' in end) {
      assert.equal(end.record.type, 7);
      assert.equal(end.record.error, undefined);
      end = await hub.next('the close frame');
    }
    assert.deepEqual(end, { close: 1000, reason: '' });
  });
}
