// Whatever text a user types arrives as it was typed.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ChatClient, newRoom, shorten } from './helpers.mjs';

const texts = {
  'the empty text': '',
  'emoji with joiners, skin tones and flags': '👩🏽‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 🇪🇺 🦀',
  'right-to-left text with direction marks': 'שלום \u202b עולם \u202c مرحبا \u200f!',
  'combining marks, composed and decomposed kept apart': '\u00e9 e\u0301 Z\u0351\u036b\u0343a\u0334l\u0355g\u030co',
  'characters outside the basic plane': '𝕳𝖚𝖇 𠜎 𐍈',
  'line and paragraph separators': 'one\u2028two\u2029three',
  'NUL and every other control character': Array.from({ length: 32 }, (_, i) => String.fromCharCode(i)).join('') + '\x7f\x80\x9f',
  'the record separator itself': 'before\x1eafter\x1e',
  'byte order marks, replacement characters and non-characters': '\ufeff \ufffd \ufffe \uffff',
  'quotes, backslashes and things that look like escapes': '"\\" \\u0041 \\n \' ` ${x} %41 &amp;',
  'markup, which stays text': '<img src=x onerror=alert(1)> </script><b>',
  'text that looks like a hub message': '{"type":7,"error":"no"}\x1e{"type":6}',
  'line breaks of every kind': 'a\nb\r\nc\rd\te',
};
for (const [what, text] of Object.entries(texts)) {
  test(`a user name and a message may hold ${what}`, async (t) => {
    const room = newRoom();
    const ann = await ChatClient.start(t);
    const bob = await ChatClient.start(t);
    await bob.join(room);
    await ann.say(room, text, text);
    assert.deepEqual((await bob.inbox.first(2))[1], [text, text]);
    assert.equal(await ann.invoke('Echo', text), text);
  });
}

for (const [what, text] of Object.entries({
  'ASCII': 'x'.repeat(20 * 1024),
  'two-byte characters': 'é'.repeat(10 * 1024),
  'emoji': '🦀'.repeat(5 * 1024),
})) {
  test(`a message of 20 KB of ${what} arrives whole`, async (t) => {
    const room = newRoom();
    const ann = await ChatClient.start(t);
    const bob = await ChatClient.start(t);
    await bob.join(room);
    await ann.say(room, 'ann', text);
    const [user, message] = (await bob.inbox.first(2))[1];
    assert.equal(user, 'ann');
    assert.ok(message === text, `the text changed: ${shorten(message, 80)}`);
  });
}

for (const [what, text] of Object.entries({ high: 'a\ud83db', low: 'a\udc00b', reversed: '\udc00\ud83d' })) {
  // JavaScript strings may hold half a character; the client sends it as an escape, and no server text can hold it.
  test(`a ${what} lone surrogate is refused with a completion, and the connection lives`, async (t) => {
    const room = newRoom();
    const ann = await ChatClient.start(t);
    await ann.join(room);
    await assert.rejects(ann.say(room, 'ann', text), {
      message: "Failed to invoke 'SendMessage' due to an error on the server.",
    });
    await ann.say(room, 'ann', 'fine');
    assert.deepEqual((await ann.inbox.first(2))[1], ['ann', 'fine']);
  });
}

test('a message over the limit ends its sender with an error, and nobody else', async (t) => {
  const room = newRoom();
  const ann = await ChatClient.start(t);
  const bob = await ChatClient.start(t);
  await bob.join(room);
  const error = { message: 'Server returned an error on close: Connection closed with an error.' };
  await assert.rejects(ann.say(room, 'ann', 'x'.repeat(32 * 1024)), error);
  const [end] = await ann.closed.first(1, 'onclose');
  assert.equal(end.error?.message, error.message);
  await bob.say(room, 'bob', 'I am fine');
  assert.deepEqual((await bob.inbox.first(2))[1], ['bob', 'I am fine']);
});
