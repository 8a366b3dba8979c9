// WebSocket frames, good and bad.

import assert from 'node:assert/strict';
import test from 'node:test';
import { differsOn31 } from './helpers.mjs';
import { BINARY, CLOSE, CONTINUATION, FrameSocket, PING, PONG, TEXT, closing, frame } from './frames.mjs';
import { HANDSHAKE, RS, RawHub, completion, invocation } from './raw.mjs';

const CALL = invocation('1', 'Echo', 'é');

/** The answer to CALL is the next thing that comes. */
async function answersCall(socket) {
  const { text } = await socket.next('the completion');
  assert.ok(text?.endsWith(RS), text);
  assert.deepEqual(JSON.parse(text.slice(0, -1)), completion('1', 'é'));
}

const [start, middle, end] = [CALL.slice(0, 15), CALL.slice(15, 30), CALL.slice(30)];
const fine = {
  'one text message': [frame(TEXT, CALL)],
  'one binary message': [frame(BINARY, CALL)],
  'empty messages before it': [frame(TEXT), frame(BINARY), frame(TEXT, CALL)],
  'three text messages': [frame(TEXT, start), frame(TEXT, middle), frame(TEXT, end)],
  'a text and a binary message': [frame(TEXT, start), frame(BINARY, middle + end)],
  'a message of three fragments': [frame(TEXT, start, { fin: false }), frame(CONTINUATION, middle, { fin: false }), frame(CONTINUATION, end)],
  'fragments of which some are empty': [frame(TEXT, '', { fin: false }), frame(CONTINUATION, CALL, { fin: false }), frame(CONTINUATION)],
  'a pong that nobody asked for before it': [frame(PONG, 'x'), frame(TEXT, CALL)],
};
for (const [how, frames] of Object.entries(fine)) {
  test(`a call may come as ${how}`, async (t) => {
    const socket = await FrameSocket.open(t);
    socket.send(...frames);
    await answersCall(socket);
  });
}

test('a character may be split over two fragments', async (t) => {
  const socket = await FrameSocket.open(t);
  const bytes = Buffer.from(CALL);
  const inside = bytes.indexOf(0xc3) + 1;
  socket.send(frame(TEXT, bytes.subarray(0, inside), { fin: false }), frame(CONTINUATION, bytes.subarray(inside)));
  await answersCall(socket);
});

test('a handshake may come in fragments', async (t) => {
  const socket = await FrameSocket.open(t, { handshake: false });
  socket.send(frame(TEXT, HANDSHAKE.slice(0, 9), { fin: false }), frame(CONTINUATION, HANDSHAKE.slice(9)));
  await socket.expect({ text: `{}${RS}` });
});

test('a frame may come byte by byte', async (t) => {
  const socket = await FrameSocket.open(t);
  for (const byte of frame(TEXT, CALL)) {
    socket.send(Buffer.from([byte]));
    await new Promise(setImmediate);
  }
  await answersCall(socket);
});

for (const payload of ['', 'abc', 'p'.repeat(125)]) {
  test(`a ping of ${payload.length} bytes is answered with the same bytes`, async (t) => {
    const socket = await FrameSocket.open(t);
    socket.send(frame(PING, payload));
    await socket.expect({ pong: payload });
  });
}

test('a ping is answered before the handshake, too', async (t) => {
  const socket = await FrameSocket.open(t, { handshake: false });
  socket.send(frame(PING, 'early'));
  await socket.expect({ pong: 'early' });
});

test('a ping between two fragments is answered at once', async (t) => {
  const socket = await FrameSocket.open(t);
  socket.send(frame(TEXT, start, { fin: false }), frame(PING, 'now'));
  await socket.expect({ pong: 'now' });
  socket.send(frame(CONTINUATION, middle + end));
  await answersCall(socket);
});

const broken = {
  'a reserved bit (1)': [frame(TEXT, CALL, { rsv: 4 })],
  'a reserved bit (2)': [frame(TEXT, CALL, { rsv: 2 })],
  'a reserved bit (3)': [frame(TEXT, CALL, { rsv: 1 })],
  'a data opcode that does not exist': [frame(3, 'x')],
  'a control opcode that does not exist': [frame(11, 'x')],
  'a continuation of nothing': [frame(CONTINUATION, CALL)],
  'a new message inside a fragmented one': [frame(TEXT, start, { fin: false }), frame(TEXT, CALL)],
  'a ping of 126 bytes': [frame(PING, 'p'.repeat(126))],
  'a fragmented ping': [frame(PING, 'p', { fin: false })],
  'a close frame of one byte': [frame(CLOSE, 'x')],
  'the close code 0': [frame(CLOSE, closing(0))],
  'the close code 999': [frame(CLOSE, closing(999))],
  'the close code 1005': [frame(CLOSE, closing(1005))],
  'the close code 1006': [frame(CLOSE, closing(1006))],
  'the close code 2999': [frame(CLOSE, closing(2999))],
  'the close code 5000': [frame(CLOSE, closing(5000))],
};
for (const [what, frames] of Object.entries(broken)) {
  test(`${what} breaks the WebSocket protocol: closed with 1002, and no hub message`, async (t) => {
    const socket = await FrameSocket.open(t);
    socket.send(...frames);
    await socket.expect({ close: 1002 });
  });
}

test('text that is not UTF-8 is closed with 1007, and no hub message', async (t) => {
  const socket = await FrameSocket.open(t);
  socket.send(frame(TEXT, Buffer.concat([Buffer.from('{"type":6,"x":"'), Buffer.from([0xff, 0xfe]), Buffer.from(`"}${RS}`)])));
  await socket.expect({ close: 1007 });
});

test('a character split over two text messages is not UTF-8 in either', async (t) => {
  const socket = await FrameSocket.open(t);
  const bytes = Buffer.from(CALL);
  const inside = bytes.indexOf(0xc3) + 1;
  socket.send(frame(TEXT, bytes.subarray(0, inside)), frame(TEXT, bytes.subarray(inside)));
  await socket.expect({ close: 1007 });
});

test('a frame that is not masked ends the connection', { skip: differsOn31('it reads such frames') }, async (t) => {
  const socket = await FrameSocket.open(t);
  socket.send(frame(TEXT, CALL, { masked: false }));
  const item = await socket.next('the end');
  assert.ok(item.close === 1002 || item.end, `the frame was read: ${JSON.stringify(item)}`);
});

test('a frame that declares four gigabytes is waited for and harms nobody', async (t) => {
  const socket = await FrameSocket.open(t);
  const head = Buffer.alloc(14);
  head.set([0x80 | TEXT, 0x80 | 127]);
  head.writeBigUInt64BE(2n ** 32n, 2);
  socket.send(head, Buffer.from('only this'));
  const other = await RawHub.open(t);
  await other.lives();
});

for (const payload of [closing(1000), closing(1001), closing(1000, 'bye'), closing(3000), closing(4000), closing(4999), '']) {
  const code = payload.length ? payload.readUInt16BE(0) + payload.subarray(2).toString().replace(/^./, ' $&') : 'no code';
  test(`a client's close with ${code} is answered with 1000, and then the socket ends`, async (t) => {
    const socket = await FrameSocket.open(t);
    socket.send(frame(CLOSE, payload));
    await socket.expect({ close: 1000 });
    await socket.expect({ end: true });
  });
}

test('a close in the middle of a message, or of a fragment, is answered all the same', async (t) => {
  for (const fin of [true, false]) {
    const socket = await FrameSocket.open(t);
    socket.send(frame(TEXT, start, { fin }), frame(CLOSE, closing(1000)));
    await socket.expect({ close: 1000 });
  }
});

test('what comes behind a close is not read', async (t) => {
  const socket = await FrameSocket.open(t);
  socket.send(frame(CLOSE, closing(1000)), frame(TEXT, CALL));
  await socket.expect({ close: 1000 });
  await socket.expect({ end: true });
});

test('a client that never answers the server\'s close frame is let go of after five seconds', async (t) => {
  const socket = await FrameSocket.open(t);
  const sent = Date.now();
  socket.send(frame(TEXT, `garbage${RS}`));
  assert.ok((await socket.next('the Close message')).text);
  await socket.expect({ close: 1000 });
  await socket.expect({ end: true }, 15_000);
  const waited = Date.now() - sent;
  assert.ok(waited < 8000, `it took ${waited} ms`);
});

test('a client that vanishes without a word is not noticed by the others', async (t) => {
  const [gone, other] = [await FrameSocket.open(t), await RawHub.open(t)];
  gone.send(frame(TEXT, start));
  gone.socket.destroy();
  await other.lives();
});
