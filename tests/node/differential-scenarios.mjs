// The scenarios of the differential test: what is done, and where this server knowingly answers otherwise than ASP.NET Core 3.1.

import { CONNECTION_ERROR, HANDSHAKE, RS, completion, failure, invocation, record, upgradeHeaders } from './raw.mjs';
import { EVENTS } from './transports.mjs';

/** Every scenario: `name`, `run(subject)`, and for a difference `why` and `here`, the transcript that this server must give instead. */
export const scenarios = [];

function scenario(name, run, differs = {}) {
  scenarios.push({ name, run, ...differs });
}

const NEWER = 'newer versions than 3.1 do it like this';

// ---- Negotiate.

for (const query of ['', '?negotiateVersion=0', '?negotiateVersion=1', '?negotiateVersion=2', '?negotiateVersion=99', '?NEGOTIATEVERSION=1', '?negotiateVersion=1&useStatefulReconnect=true', '?negotiateVersion=1&x=y', '?negotiateVersion=-1', '?negotiateVersion=%201']) {
  scenario(`negotiate with the query "${query}"`, (s) => s.negotiate(query));
}
for (const query of ['?negotiateVersion=abc', '?negotiateVersion=', '?negotiateVersion=1.5', '?negotiateVersion=1&negotiateVersion=0']) {
  const answer = { status: 200, 'content-type': 'application/json', body: { error: 'The client requested a non-integer protocol version.' } };
  scenario(`negotiate with the query "${query}"`, (s) => s.negotiate(query), { why: NEWER, here: [{ [`negotiate${query}`]: answer }] });
}
const PREFLIGHT = 'this hub is for pages of any origin, and takes the request for their preflight';
scenario('OPTIONS on the path of negotiations', (s) => s.http('OPTIONS', '/negotiate'), { why: PREFLIGHT, here: [{ 'OPTIONS /negotiate': { status: 200 } }] });
scenario('OPTIONS on the path of the hub', (s) => s.http('OPTIONS'), { why: PREFLIGHT, here: [{ 'OPTIONS ': { status: 200 } }] });
for (const method of ['GET', 'PUT', 'HEAD', 'PATCH', 'DELETE']) {
  scenario(`${method} is no way to negotiate`, (s) => s.http(method, '/negotiate?negotiateVersion=1'));
}
scenario('a WebSocket on the path of negotiations', (s) => s.upgrade('/negotiate'));
for (const suffix of ['/nothing', '/negotiate/more', '/nothing/negotiate', '//negotiate', '%2Fnegotiate']) {
  scenario(`the path ${suffix} below the hub`, (s) => s.http('POST', suffix));
}
for (const path of ['/TESTHUB?id=nobody', '/testHub/', '/testHub/?id=nobody', '//testHub', '/testHub//', '/TestHub/Negotiate/?negotiateVersion=-1']) {
  scenario(`the path ${path}`, (s) => s.http('POST', '', { path }));
}
for (const suffix of ['/NEGOTIATE?negotiateVersion=-1', '/negotiate/?negotiateVersion=-1']) {
  scenario(`the path ${suffix} is that of negotiations`, (s) => s.http('POST', suffix));
}

// ---- Requests with ids that are none, and for other transports.

for (const id of ['', '?id=', '?id', '?id=nobody', '?ID=nobody', '?id=a&id=b']) {
  scenario(`every kind of request with "${id}"`, async (s) => {
    for (const method of ['GET', 'POST', 'DELETE']) await s.http(method, id);
    await s.http('GET', id, { headers: EVENTS });
  });
}
for (const method of ['PUT', 'HEAD', 'PATCH']) scenario(`${method} is not for hubs`, (s) => s.http(method));

scenario('the public id is not what requests are made with', async (s) => {
  const { connectionId } = await s.negotiate('?negotiateVersion=1');
  for (const method of ['GET', 'POST', 'DELETE']) await s.http(method, `?id=${connectionId}`);
  s.note((await s.upgraded(`?id=${connectionId}`)).status);
});
scenario('a connection that no transport has taken yet', async (s) => {
  const id = await s.id();
  await s.http('POST', id, { body: HANDSHAKE });
  await s.http('DELETE', id);
  await s.polled(id);
  await s.records(id, 1);
  await s.http('DELETE', id);
});
scenario('a connection over WebSockets is not disturbed by other requests', async (s) => {
  const id = await s.id();
  const socket = await s.socket({ query: id });
  for (const method of ['GET', 'POST', 'DELETE']) await s.http(method, id);
  await s.http('GET', id, { headers: EVENTS });
  await s.upgrade(id);
  await socket.fence();
});
scenario('a connection over events is not disturbed by other requests', async (s) => {
  const id = await s.id();
  const events = await s.events(id);
  for (const method of ['GET', 'DELETE']) await s.http(method, id);
  await s.http('GET', id, { headers: EVENTS });
  await s.upgrade(id);
  await s.http('POST', id, { body: HANDSHAKE });
  await events.until(`{}${RS}\r\n\r\n`);
});
scenario('a connection over Long Polling is not disturbed by other requests', async (s) => {
  const id = await s.polling();
  await s.http('GET', id, { headers: EVENTS });
  await s.upgrade(id);
  await s.post(id, invocation('1', 'Echo', 'x'));
  await s.records(id, 1);
});

// ---- Upgrades.

scenario('an upgrade is answered with the headers that it needs', (s) => s.upgrade());
scenario('no subprotocol and no extension is agreed to', async (s) => {
  await s.upgrade('', { 'Sec-WebSocket-Protocol': 'json, other', 'Sec-WebSocket-Extensions': 'permessage-deflate' });
});
scenario('an upgrade with an empty id makes a new connection', (s) => s.upgrade('?id='));
scenario('an upgrade with the id of a negotiation of version 0', async (s) => {
  const { connectionId } = await s.negotiate('');
  const socket = await s.socket({ query: `?id=${connectionId}` });
  socket.send(invocation('1', 'GetCallerConnectionId'));
  await socket.take();
});
scenario('an upgrade with an unknown id', (s) => s.upgrade('?id=nobody'), {
  why: 'here the answer has the type of all the others',
  here: [{ 'GET ?id=nobody': { status: 404, 'content-type': 'text/plain', body: 'No Connection with that ID' } }],
});
for (const [what, changes] of Object.entries({
  'another version': { 'Sec-WebSocket-Version': '12' },
  'no version': { 'Sec-WebSocket-Version': undefined },
  'no key': { 'Sec-WebSocket-Key': undefined },
  'a key that is none': { 'Sec-WebSocket-Key': 'abc' },
  'another protocol': { Upgrade: 'h2c' },
})) {
  scenario(`an upgrade with ${what} is an ordinary request`, (s) => s.upgrade('', changes));
}
scenario('a POST that asks for an upgrade is a POST', (s) => s.http('POST', '', { headers: upgradeHeaders() }));
scenario('who accepts events gets events, even with an upgrade', (s) => s.upgrade('', EVENTS));

// ---- Long Polling.

scenario('polls: nothing at first, then what there is', async (s) => {
  const id = await s.id();
  await s.polled(id);
  await s.http('POST', id, { body: HANDSHAKE });
  await s.polled(id);
  const poll = s.poll(id);
  await s.http('POST', id, { body: invocation('1', 'Echo', 'x') });
  await s.polled(id, poll);
});
scenario('a newer poll takes over, and the older one is told', async (s) => {
  const id = await s.polling();
  const [older, other] = [s.poll(id), await s.polling()];
  // Whatever a second connection does behind it shows that the first poll has arrived.
  await s.post(other, invocation('1', 'Echo', 'x'));
  await s.records(other, 1);
  const newer = s.poll(id);
  await s.polled(id, older);
  await s.post(id, invocation('1', 'Echo', 'x'));
  await s.polled(id, newer);
});
scenario('DELETE ends a connection that is polled, and then it is gone', async (s) => {
  const id = await s.polling();
  const poll = s.poll(id);
  await s.post(id, invocation('1', 'Echo', 'x'));
  await s.polled(id, poll);
  const last = s.poll(id);
  await s.polling(); // takes many requests; by then the poll has arrived
  await s.http('DELETE', id);
  await last.result(); // mostly with a Close message; 3.1 is sometimes faster than that
  for (const method of ['GET', 'POST', 'DELETE']) await s.http(method, id);
});
scenario('bad input over Long Polling: the reason, the end, and nothing', async (s) => {
  const id = await s.polling();
  await s.http('POST', id, { body: `bad${RS}` });
  await s.records(id, 1);
  await s.polled(id);
  for (const method of ['GET', 'POST', 'DELETE']) await s.http(method, id);
});
scenario('a failed handshake over Long Polling', async (s) => {
  const id = await s.id();
  await s.polled(id);
  await s.http('POST', id, { body: `{"protocol":"nope","version":1}${RS}` });
  await s.records(id, 1);
  await s.polled(id);
  await s.http('POST', id, { body: 'x' });
});
scenario('a message may be cut over two POSTs, and two may be in one', async (s) => {
  const id = await s.polling();
  const message = invocation('1', 'Echo', 'é');
  await s.post(id, message.slice(0, 20));
  await s.post(id, message.slice(20) + invocation('2', 'Echo', 'b') + invocation('3', 'Echo', 'c'));
  await s.records(id, 3);
});
scenario('a POST whose body comes in pieces', async (s) => {
  const id = await s.polling();
  const post = s.slowPost(id);
  await post.write(invocation('1', 'Echo', 'a'));
  await s.records(id, 1);
  const { status, body } = await post.end(invocation('2', 'Echo', 'b'));
  s.note({ status, body });
  await s.records(id, 1);
});
scenario('empty POSTs are harmless', async (s) => {
  const id = await s.polling();
  for (let i = 0; i < 3; i++) await s.http('POST', id);
  await s.post(id, invocation('1', 'Echo', 'x'));
  await s.records(id, 1);
});
scenario('Abort over Long Polling', async (s) => {
  const id = await s.polling();
  await s.post(id, record({ type: 1, target: 'Abort', arguments: [] }));
  await s.polled(id);
  await s.polled(id);
}, {
  why: `${NEWER}: a Close message comes before the end`,
  here: [{ poll: { status: 200, 'content-type': 'application/octet-stream', records: ['{"type":7}', ''] } }, { poll: { status: 204, 'content-type': 'text/plain' } }],
});

// ---- Events.

scenario('events begin with a comment, and then there is one event for what is sent', async (s) => {
  const id = await s.id();
  const events = await s.events(id);
  await events.until(':\r\n');
  await s.http('POST', id, { body: HANDSHAKE });
  await events.until(`{}${RS}\r\n\r\n`);
  await s.http('POST', id, { body: invocation('1', 'Add', 1, 2) });
  await events.until(`3}${RS}\r\n\r\n`);
});
for (const accept of ['text/event-stream, */*', 'TEXT/EVENT-STREAM', 'application/json, text/event-stream']) {
  scenario(`events are for who accepts "${accept}"`, async (s) => (await s.events(await s.id(), { Accept: accept })).until(':\r\n'));
}
for (const accept of ['*/*', 'text/*', 'text/event-stream;q=0.9']) {
  scenario(`a poll is for who accepts "${accept}"`, async (s) => {
    const id = await s.id();
    await s.polled(id, s.poll(id, { Accept: accept }));
  });
}
scenario('bad input over events: the reason, and the end', async (s) => {
  const id = await s.id();
  const events = await s.events(id);
  await s.post(id, HANDSHAKE);
  await events.until(`{}${RS}\r\n\r\n`);
  await s.http('POST', id, { body: `bad${RS}` });
  await events.until('<end>');
  await s.http('POST', id, { body: 'x' });
});
scenario('a failed handshake over events', async (s) => {
  const id = await s.id();
  const events = await s.events(id);
  await s.post(id, `{"protocol":"json","version":9}${RS}`);
  // The texts of 3.1 have escapes that newer ones do not.
  await events.until('<end>');
}, {
  why: 'apostrophes are escaped by 3.1 alone',
  here: [
    { status: 200, type: 'text/event-stream', encoding: 'identity' },
    `:\r\ndata: {"error":"The server does not support version 9 of the 'json' protocol."}${RS}\r\n\r\n<end>`,
  ],
});

// ---- Handshakes.

function handshake(what, text, differs) {
  scenario(`the handshake ${what}`, async (s) => {
    const socket = await s.socket({ handshake: false });
    socket.send(...[text].flat());
    const first = await socket.take();
    if ('error' in first) return void (await socket.take());
    await socket.fence();
  }, differs);
}

const H = HANDSHAKE.slice(0, -1);
handshake('as clients send it', HANDSHAKE);
handshake('with its protocol in capitals', `{"protocol":"JSON","version":1}${RS}`);
handshake('in another order and with more in it', `{"x":{"y":[1]},"version":1,"type":6,"protocol":"json"}${RS}`);
handshake('with blanks around it', `\n ${H}\t${RS}`);
handshake('with its protocol twice', `{"protocol":"nope","protocol":"json","version":1}${RS}`);
handshake('in pieces', [H.slice(0, 5), H.slice(5), RS]);
handshake('as a binary message', Buffer.from(HANDSHAKE));
handshake('with a call behind it', HANDSHAKE + invocation('1', 'Echo', 'x'));
handshake('with something bad behind it', `${HANDSHAKE}bad${RS}`);
handshake('twice', HANDSHAKE + HANDSHAKE);
handshake('after an empty message', ['', HANDSHAKE]);
handshake('for a protocol that nobody has', `{"protocol":"nope","version":1}${RS}`);
handshake('for the protocol with an empty name', `{"protocol":"","version":1}${RS}`);
handshake('for version 3', `{"protocol":"json","version":3}${RS}`);
const accepted = {
  why: `${NEWER}: every version up to 2 is good`,
  here: [{}, completion('fence', 'fence')],
};
for (const version of [0, -1, 2]) handshake(`for version ${version}`, `{"protocol":"json","version":${version}}${RS}`, accepted);
for (const text of ['bad', '', '[]', '{}', 'null', '{"protocol":"json"}', '{"version":1}', '{"protocol":null,"version":1}', '{"protocol":1,"version":1}', '{"protocol":"json","version":"1"}', '{"protocol":"json","version":1.5}', '{"protocol":"json","version":null}', '{"Protocol":"json","Version":1}', '{"type":1,"target":"Echo","arguments":["x"]}']) {
  handshake(`as ${text || 'nothing'}`, text + RS);
}
handshake('that is too long', `${H.slice(0, -1)},"x":"${'x'.repeat(40_000)}"}${RS}`);
handshake('that has no end', 'x'.repeat(40_000));

// ---- Messages over a WebSocket: what comes before the answer to the next call, or before the end.

function messages(what, texts, differs) {
  scenario(`messages: ${what}`, async (s) => {
    const socket = await s.socket();
    socket.send(...[texts].flat());
    await socket.fence();
  }, differs);
}
const raw = (text) => text + RS;

const fine = {
  'a ping': '{"type":6}',
  'a ping with more in it': '{"type":6,"x":[1,{"type":1}],"y":null}',
  'the completion of a call nobody made': '{"type":3,"invocationId":"1","result":5}',
  'the failure of a call nobody made': '{"type":3,"invocationId":"1","error":"x"}',
  'a completion without anything of a call nobody made': '{"type":3,"invocationId":"1"}',
  'an item of a stream nobody opened': '{"type":2,"invocationId":"1","item":null}',
  'a cancellation of a stream nobody opened': '{"type":5,"invocationId":"1"}',
  'something behind an object': '{"type":6}x',
  'blanks around a message': ' {"type":6}\n',
  'properties in reverse': '{"arguments":["x"],"target":"Echo","invocationId":"1","type":1}',
  'properties twice': '{"type":6,"type":1,"invocationId":"0","invocationId":"1","target":"a","target":"Echo","arguments":["a"],"arguments":["x"]}',
  'properties with escapes': '{"t\\u0079pe":1,"invocationId":"1","target":"\\u0045cho","arguments":["\\u0078"]}',
  'headers and streams of none': '{"type":1,"headers":{"a":"b","":""},"invocationId":"1","target":"Echo","arguments":["x"],"streamIds":[]}',
  'the empty id': '{"type":1,"invocationId":"","target":"Echo","arguments":["x"]}',
  'a call without an id': '{"type":1,"target":"Echo","arguments":["x"]}',
  'a call without an id of nothing': '{"type":1,"target":"Nothing","arguments":["x"]}',
  'a call without an id and with too few arguments': '{"type":1,"target":"Echo","arguments":[]}',
  'a call without an id that fails': '{"type":1,"target":"ThrowHubException","arguments":["x"]}',
};
for (const [what, text] of Object.entries(fine)) messages(what, raw(text));

const calls = {
  'a method that there is not': ['Nothing', 1],
  'a method with a blank': [' Echo', 'x'],
  'methods of the base': ['OnConnectedAsync'],
  'too few arguments': ['Add', 1],
  'too many arguments': ['Add', 1, 2, 3],
  'a number for a text': ['Echo', 5],
  'a text for a number': ['Add', '1', '2'],
  'a fraction for a whole number': ['Add', 1.5, 2],
  'null for a number': ['Add', null, 2],
  'a number that is too large': ['Add', 2147483648, 0],
  'a truth value as a text': ['EchoBool', 'true'],
  'null for a text': ['Echo', null],
  'null for a number that may be null': ['EchoNullableInt', null],
  'an object for a list': ['EchoList', {}],
  'a list of other things': ['EchoList', [1]],
  'a dictionary of other things': ['EchoDictionary', { a: 'b' }],
  'text that is not base64': ['EchoBytes', '!!'],
  'a guid that is none': ['EchoGuid', 'x'],
  'a guid in capitals': ['EchoGuid', 'C2A3DBB1-4B1C-4B9E-8F0B-2F6F5D3E8A01'],
  'a date that is none': ['EchoDate', 'yesterday'],
  'a date with a fraction': ['EchoDate', '2020-02-29T12:00:00.1234567Z'],
  'a void method': ['VoidMethod'],
  'a method that fails': ['ThrowException', 'secret'],
  'a method that fails and says why': ['ThrowHubException', 'shown'],
  'a method that fails and says nothing': ['ThrowHubException', ''],
  'an object of which little is given': ['EchoComplexObject', { string: 'x' }],
  'an object as .NET declares it': ['EchoComplexObject', { String: 'x', IntArray: [1] }],
  'values of every kind to the client': ['CallBackManyArgs'],
  'no values to the client': ['CallBackNoArgs'],
  'a call of the client before the result': ['CallBackThenReturn', 'x'],
  'a stream method called plainly': ['Stream'],
  'a stream method called plainly with too many arguments': ['Stream', 1],
  'an upload method without its stream': ['StreamingConcat'],
};
for (const [what, [target, ...values]] of Object.entries(calls)) messages(what, invocation('1', target, ...values));

messages('a date without a zone', invocation('1', 'EchoDate', '2020-02-29T12:00:00'), {
  why: 'a point in time is in UTC here, always',
  here: [completion('1', '2020-02-29T12:00:00Z'), completion('fence', 'fence')],
});

const bad = [
  'bad', '{"type":1', '{"type":6,}', '/*x*/{"type":6}', '[]', '"x"', '6', 'null', '', '\ufeff{"type":6}', '{}', '{"x":1}',
  '{"type":"6"}', '{"type":null}', '{"type":6.0}', '{"type":true}', '{"type":99999999999}',
  '{"type":6,"invocationId":null}', '{"type":6,"invocationId":1}', '{"type":6,"headers":null}', '{"type":6,"headers":{"a":1}}',
  '{"type":1,"invocationId":null,"target":"Echo","arguments":["x"]}', '{"type":1,"invocationId":1,"target":"Echo","arguments":["x"]}',
  '{"type":1,"invocationId":"1","target":null,"arguments":["x"]}', '{"type":1,"invocationId":"1","target":5,"arguments":["x"]}',
  '{"type":1,"invocationId":"1","target":"Echo"}', '{"type":1,"invocationId":"1","target":"Echo","arguments":null}',
  '{"type":1,"invocationId":"1","target":"Echo","arguments":{}}', '{"type":1,"target":"Nothing","arguments":{}}',
  '{"type":1,"headers":[],"invocationId":"1","target":"Echo","arguments":["x"]}',
  '{"type":1,"invocationId":"1","target":"Echo","arguments":["x"],"streamIds":null}',
  '{"type":1,"invocationId":"1","target":"Echo","arguments":["x"],"streamIds":[1]}',
  '{"type":2,"invocationId":"1"}', '{"type":2,"item":1}', '{"type":2,"invocationId":"","item":1}', '{"type":2,"invocationId":null,"item":1}',
  '{"type":3}', '{"type":3,"invocationId":""}', '{"type":3,"invocationId":"1","error":"x","result":1}', '{"type":3,"invocationId":"1","error":null}',
  '{"type":3,"invocationId":"1","error":1}', '{"type":4,"target":"Stream","arguments":[],"invocationId":""}', '{"type":5}', '{"type":5,"invocationId":""}',
  '{"type":7,"allowReconnect":1}', '{"type":7,"error":null}', '{"type":6,"x":"\u0001"}', '{"type":6,"x":"\\q"}', `{"type":6,"x":${'['.repeat(70)}${']'.repeat(70)}}`,
];
for (const text of bad) messages(`${text.length > 80 ? `${text.slice(0, 40)}…` : text || 'an empty record'} ends it`, raw(text));

for (const target of ['', undefined]) {
  messages(`a call of ${target === '' ? 'the empty name' : 'no name'}`, record({ type: 1, invocationId: '1', target, arguments: [] }), {
    why: `${NEWER}: the target is required`,
    here: [CONNECTION_ERROR, { closed: 1000, reason: '' }],
  });
}
for (const text of ['{"type":7}', '{"type":7,"error":"x"}']) {
  messages(`${text}, the goodbye of newer clients`, raw(text), { why: `${NEWER}: a client may say goodbye`, here: [{ closed: 1000, reason: '' }] });
}
messages('a message of exactly the limit, and one more byte', [sized(32_768), sized(32_769)]);
messages('two messages that are together above the limit', sized(20_000) + sized(20_000));
messages('more than the limit without an end', 'x'.repeat(33_000));
messages('a record in two messages, of which one is binary', [raw('{"type":6}').slice(0, 4), Buffer.from(raw('{"type":6}').slice(4))]);
messages('calls in one message are answered in order', ['a', 'b', 'c'].map((id) => invocation(id, 'Echo', id)).join(''));
messages('the same id twice', invocation('1', 'Echo', 'a') + invocation('1', 'Echo', 'b'));
messages('a slow call and a fast one', invocation('1', 'DelayedEcho', 'slow', 100) + invocation('2', 'Echo', 'fast'));

/** A call of Echo whose record has this many bytes. */
function sized(bytes) {
  const bare = invocation('1', 'Echo', '').length;
  return invocation('1', 'Echo', 'x'.repeat(bytes - bare));
}

// ---- The end of a connection.

for (const code of [1000, 1001, 3000, 4999]) {
  scenario(`a client closes its WebSocket with ${code}`, async (s) => {
    const socket = await s.socket();
    socket.socket.close(code, 'reason');
    await socket.ends();
  });
}
scenario('a client closes its WebSocket before the handshake', async (s) => {
  const socket = await s.socket({ handshake: false });
  socket.socket.close(1000);
  await socket.ends();
});
scenario('pings of WebSockets are answered with what they carry', async (s) => {
  const socket = await s.socket();
  for (const text of ['', 'abc', 'x'.repeat(125)]) {
    socket.socket.ping(text);
    await socket.take();
  }
});
scenario('Abort over WebSockets', async (s) => {
  const socket = await s.socket();
  socket.send(invocation('1', 'Abort'));
  for (;;) {
    const item = await socket.take();
    if ('closed' in item) return;
  }
}, { why: `${NEWER}: a Close message comes before the end, and each call has its completion`, here: [completion('1', null), { type: 7 }, { closed: 1000, reason: '' }] });
scenario('a token is of no use when its connection has ended', async (s) => {
  const id = await s.id();
  const socket = await s.socket({ query: id });
  socket.socket.close(1000);
  await socket.ends();
  // The connection is forgotten a moment after its end.
  for (let asked = 0; asked < 500; asked += 1) {
    await s.http('GET', id);
    if (JSON.stringify(s.transcript.pop()).includes('404')) break;
  }
  for (const method of ['GET', 'POST', 'DELETE']) await s.http(method, id);
  s.note((await s.upgraded(id)).status);
});
scenario('those who watch are told of an end, with no error after a close frame', async (s) => {
  const [watcher, other] = [await s.socket(), await s.socket()];
  watcher.send(invocation('w', 'WatchDisconnects'));
  other.send(invocation('1', 'GetCallerConnectionId'));
  await watcher.take();
  s.name((await other.take()).result, 'other');
  s.transcript.pop(); // was noted before it had a name
  other.socket.close(1000);
  await watcher.take();
});

// ---- Streams.

const stream = (invocationId, target, ...values) => record({ type: 4, invocationId, target, arguments: values });
const upload = (type, invocationId, target, streamIds, ...values) => record({ type, invocationId, target, arguments: values, streamIds });
const item = (invocationId, value) => record({ type: 2, invocationId, item: value });
const end = (invocationId, error) => record({ type: 3, invocationId, error });
const cancel = (invocationId) => record({ type: 5, invocationId });

/** Sends, takes these many records, and looks whether the connection lives. */
function streaming(what, count, texts, differs) {
  scenario(`streams: ${what}`, async (s) => {
    const socket = await s.socket();
    socket.send(...[texts].flat());
    await socket.takes(count);
    await socket.fence();
  }, differs);
}
streaming('items and the end', 4, stream('s', 'Stream'));
streaming('the end of an empty one', 1, stream('s', 'EmptyStream'));
streaming('a count', 4, stream('s', 'Counter', 3, 0));
streaming('an error before it begins', 1, stream('s', 'StreamThrowException', 'secret'));
streaming('an error with a text before it begins', 1, stream('s', 'StreamThrowHubException', 'shown'));
streaming('an error midway', 3, stream('s', 'StreamThrowMidway', 2, 'secret'));
streaming('an error with a text midway', 3, stream('s', 'StreamHubExceptionMidway', 2, 'shown'));
streaming('none where there should be one', 1, stream('s', 'NullStream'));
streaming('a method that there is not', 1, stream('s', 'Nothing'));
streaming('a plain method', 1, stream('s', 'eCho', 'x'));
streaming('a plain method with too few arguments', 1, stream('s', 'Add', 1));
streaming('wrong arguments', 1, stream('s', 'Counter', 'x', 0));
streaming('too few arguments', 1, stream('s', 'Counter', 3));
for (const times of [1, 2]) {
  scenario(`streams: one that is cancelled ${times} times`, async (s) => {
    const socket = await s.socket();
    socket.send(stream('s', 'InfiniteStream'), ...Array(times).fill(cancel('s')));
    await socket.takes(2);
    s.sort(2); // what the method does when it is cancelled runs beside the end of the stream
    await socket.fence();
  });
}
scenario('streams: an id may be used again after the end', async (s) => {
  const socket = await s.socket();
  for (let i = 0; i < 2; i++) {
    socket.send(stream('s', 'Stream'));
    await socket.takes(4);
  }
  await socket.fence();
});
streaming('an upload', 1, [upload(1, '1', 'StreamingConcat', ['u']), item('u', 'a'), item('u', 'b'), end('u')]);
streaming('an upload without items', 1, [upload(1, '1', 'StreamingConcat', ['u']), end('u')]);
streaming('an upload with more arguments', 1, [upload(1, '1', 'PrefixedConcat', ['u'], '<', '>'), item('u', 'a'), end('u')]);
streaming('two uploads of one call', 1, [upload(1, '1', 'TwoStreams', ['u', 'v']), item('v', 'y'), item('u', 'x'), end('v'), item('u', 'z'), end('u')]);
streaming('an upload that fails', 1, [upload(1, '1', 'StreamingConcat', ['u']), item('u', 'a'), end('u', 'broken')], {
  why: `${NEWER}: who caused the error may read it`,
  here: [failure('1', "An unexpected error occurred invoking 'StreamingConcat' on the server. HubException: broken"), completion('fence', 'fence')],
});
streaming('an item that does not fit', 1, [upload(1, '1', 'StreamingSum', ['u']), item('u', 1), item('u', 'x'), item('u', 1), end('u')], {
  why: `${NEWER}: who caused the error may read it`,
  here: [
    failure('1', "An unexpected error occurred invoking 'StreamingSum' on the server. HubException: Failed to bind Stream message."),
    completion('fence', 'fence'),
  ],
});
streaming('items after the end', 1, [upload(1, '1', 'StreamingConcat', ['u']), item('u', 'a'), end('u'), item('u', 'b'), end('u')]);
streaming('a result in the end of an upload', 1, [upload(1, '1', 'StreamingConcat', ['u']), item('u', 'a'), record({ type: 3, invocationId: 'u', result: 'x' })]);
streaming('too few streams', 1, upload(1, '1', 'TwoStreams', ['u']));
streaming('too many streams', 1, upload(1, '1', 'StreamingConcat', ['u', 'v']));
streaming('a stream for a method that takes none', 1, upload(1, '1', 'Echo', ['u'], 'x'));
streaming('no streams for a method that takes one', 1, invocation('1', 'StreamingConcat'));
streaming('items, up and down', 4, [upload(4, 's', 'StreamEcho', ['u']), item('u', 'a'), item('u', 'b'), item('u', 'c'), end('u')]);
streaming('an upload of a stream that is called plainly', 1, upload(1, '1', 'StreamEcho', ['u']));
streaming('an upload in a stream invocation of a plain method', 1, upload(4, 's', 'StreamingConcat', ['u']));
streaming('an upload that nobody waits for', 1, [record({ type: 1, target: 'UploadThenNotify', arguments: [], streamIds: ['u'] }), item('u', 'a'), item('u', 'b'), end('u')]);
