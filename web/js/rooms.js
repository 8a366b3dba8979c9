// The rooms this page is in: which one is shown, how each is connected, what waits unread, what has not been sent yet.
// Knows nothing of the document. Tells of itself with events: "change" for anything a list or a title shows, and
// "opened", "closed" and "entry", whose detail names the room.

import { entryOf, gapEntry } from "./entries.js";
import { MAX_ROOMS } from "./limits.js";

// How many of our own messages may wait to be recognised when they come back; more than a person can type meanwhile.
const MAX_ECHOES = 50;

class Room {
  state = "connecting"; // "connecting", "open" or "lost"
  unread = 0;
  draft = "";
  sending = false;
  lostAt = null;
  joinedBefore = false;
  echoes = [];

  constructor(name) {
    this.name = name;
  }
}

export class Rooms extends EventTarget {
  list = [];
  current = null;
  #connect;
  #reading = true;

  /** `connect(name, handlers)` makes a RoomConnection. */
  constructor(connect) {
    super();
    this.#connect = connect;
  }

  get names() {
    return this.list.map((room) => room.name);
  }

  get unread() {
    return this.list.reduce((sum, room) => sum + room.unread, 0);
  }

  /** Opens a room, or finds it when it is open already; `error` says why not. */
  join(name) {
    const known = this.list.find((room) => room.name === name);
    if (known) return { room: known };
    if (this.list.length >= MAX_ROOMS) {
      return { error: `You are in ${MAX_ROOMS} rooms, the most this page keeps open. Leave one to join another.` };
    }
    const room = new Room(name);
    room.connection = this.#connect(name, {
      message: (user, text) => this.#received(room, user, text),
      connecting: () => this.#setState(room, "connecting"),
      joined: () => this.#joined(room),
      lost: () => this.#lost(room),
    });
    this.list.push(room);
    this.#tell("opened", { room });
    room.connection.open();
    return { room };
  }

  leave(room) {
    const place = this.list.indexOf(room);
    this.list.splice(place, 1);
    room.connection.leave();
    this.#tell("closed", { room });
    if (this.current === room) this.select(this.list[Math.min(place, this.list.length - 1)] ?? null);
    else this.#tell("change");
  }

  select(room) {
    this.current = room;
    if (room && this.#reading) room.unread = 0;
    this.#tell("change");
  }

  /** Whether anybody looks at the page: unread messages of the current room count only while nobody does. */
  setReading(reading) {
    this.#reading = reading;
    if (reading && this.current) this.current.unread = 0;
    this.#tell("change");
  }

  retryNow() {
    for (const room of this.list) room.connection.retryNow();
  }

  /** Rejects when the message may not have reached the server. */
  async send(room, user, text) {
    // The hub sends our message back to us like to everybody else. Recognising it by what was sent, and not by the name
    // alone, keeps a stranger who took the same name from looking like us.
    const echo = { user, text };
    room.echoes = [...room.echoes, echo].slice(-MAX_ECHOES);
    room.sending = true;
    try {
      await room.connection.send(user, text);
    } catch (error) {
      room.echoes = room.echoes.filter((waiting) => waiting !== echo);
      throw error;
    } finally {
      room.sending = false;
    }
  }

  #received(room, user, text) {
    const echo = room.echoes.findIndex((waiting) => waiting.user === user && waiting.text === text);
    if (echo >= 0) room.echoes.splice(echo, 1);
    const ownId = room.connection.id;
    this.#add(room, entryOf(user, text, { room: room.name, ownId, own: echo >= 0, again: room.joinedBefore }));
  }

  #joined(room) {
    if (room.lostAt && room.joinedBefore) this.#add(room, gapEntry(room.lostAt, new Date()));
    room.lostAt = null;
    room.joinedBefore = true;
    this.#setState(room, "open");
  }

  #lost(room) {
    room.lostAt ??= new Date();
    // What was under way when the line broke comes back on no other.
    room.echoes = [];
    this.#setState(room, "lost");
  }

  #add(room, entry) {
    const read = room === this.current && this.#reading;
    if (entry.kind === "message" && !entry.own && !read) room.unread += 1;
    this.#tell("entry", { room, entry });
    this.#tell("change");
  }

  #setState(room, state) {
    room.state = state;
    this.#tell("change");
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
