// A WebSocket by hand, for frames that no WebSocket library would send.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Log, shorten } from './helpers.mjs';
import { HANDSHAKE, RS, request, upgradeHeaders } from './raw.mjs';

export const TEXT = 1;
export const BINARY = 2;
export const CONTINUATION = 0;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

/** The bytes of one frame, as a client sends it; `rsv` are the three reserved bits. */
export function frame(opcode, payload = '', { fin = true, masked = true, rsv = 0 } = {}) {
  const data = Buffer.from(payload);
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const mask = masked ? 0x80 : 0;
  let head;
  if (data.length < 126) {
    head = Buffer.from([first, mask | data.length]);
  } else if (data.length < 65536) {
    head = Buffer.from([first, mask | 126, 0, 0]);
    head.writeUInt16BE(data.length, 2);
  } else {
    head = Buffer.alloc(10);
    head.set([first, mask | 127]);
    head.writeBigUInt64BE(BigInt(data.length), 2);
  }
  if (!masked) return Buffer.concat([head, data]);
  const key = randomBytes(4);
  return Buffer.concat([head, key, data.map((byte, i) => byte ^ key[i % 4])]);
}

/** The payload of a close frame. */
export function closing(code, reason = '') {
  const payload = Buffer.from(`\0\0${reason}`);
  payload.writeUInt16BE(code);
  return payload;
}

/** An upgraded socket: frames go out as bytes, and come in as `{text}`, `{pong}`, `{close}` or, at the end, `{end}`. */
export class FrameSocket {
  #log = new Log();
  #taken = 0;
  #rest = Buffer.alloc(0);
  #fragments = '';

  constructor(socket, head) {
    this.socket = socket;
    socket.on('data', (data) => this.#read(data));
    socket.on('error', () => {}); // seen as the end that follows
    socket.on('close', () => this.#log.push({ end: true }));
    this.#read(head);
  }

  static async open(t, { handshake = true } = {}) {
    const answer = await request('GET', '', { headers: upgradeHeaders() });
    assert.equal(answer.status, 101);
    t.after(() => answer.socket.destroy());
    const socket = new FrameSocket(answer.socket, answer.head);
    if (handshake) {
      socket.send(frame(TEXT, HANDSHAKE));
      await socket.expect({ text: `{}${RS}` });
    }
    return socket;
  }

  /** All of it in one write, so that it tends to arrive at once. */
  send(...frames) {
    this.socket.write(Buffer.concat(frames));
  }

  #read(data) {
    this.#rest = Buffer.concat([this.#rest, data]);
    for (;;) {
      const bytes = this.#rest;
      if (bytes.length < 2) return;
      let [length, start] = [bytes[1] & 0x7f, 2];
      if (length === 126) {
        if (bytes.length < 4) return;
        [length, start] = [bytes.readUInt16BE(2), 4];
      } else if (length === 127) {
        if (bytes.length < 10) return;
        [length, start] = [Number(bytes.readBigUInt64BE(2)), 10];
      }
      if (bytes.length < start + length) return;
      this.#rest = bytes.subarray(start + length);
      this.#take(bytes[0], bytes[1], bytes.subarray(start, start + length));
    }
  }

  #take(first, second, payload) {
    const opcode = first & 0x0f;
    if (first & 0x70 || second & 0x80) this.#log.push({ broken: `a server's frame with reserved bits or a mask: ${first} ${second}` });
    else if (opcode === CLOSE) this.#log.push({ close: payload.length < 2 ? undefined : payload.readUInt16BE(0) });
    else if (opcode === PONG) this.#log.push({ pong: payload.toString() });
    else if (opcode === TEXT || opcode === CONTINUATION) {
      this.#fragments += payload.toString();
      if (first & 0x80) {
        this.#log.push({ text: this.#fragments });
        this.#fragments = '';
      }
    } else this.#log.push({ broken: `a server's frame with opcode ${opcode}` });
  }

  next(what, ms) {
    const at = this.#taken++;
    return this.#log.until((items) => items[at], what, ms);
  }

  async expect(item, ms) {
    assert.deepEqual(await this.next(shorten(item), ms), item);
  }
}
