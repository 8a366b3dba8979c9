// What one ReceiveMessage means to a reader: a message of somebody, or the hub's notice that somebody came or went.

import { SYSTEM_NAME } from "./limits.js";

const NOTICE = /^(\S+) has (joined|left) the room (.*)$/s;

/** `ownId` is the connection's id, `own` whether this page sent the message, `again` whether we were in the room before. */
export function entryOf(user, text, { room, ownId, own, again }) {
  const entry = { kind: "message", user, text, own, time: new Date() };
  // Anyone can send under the name System. Only the two sentences that the hub really says, about this very room, are
  // shown as its notices; everything else stays an ordinary message, so that nobody speaks for the server.
  const [, id, happened, where] = (user === SYSTEM_NAME && NOTICE.exec(text)) || [];
  if (where !== room) return entry;
  const who = id === ownId ? "You" : `Guest ${shortId(id)}`;
  const what = happened === "left" ? "left the room" : again && id === ownId ? "are back in the room" : "joined the room";
  return { kind: "notice", text: `${who} ${what}`, title: text, time: entry.time };
}

/** Says what a lost connection means for the reader: messages of that time went to others only. */
export function gapEntry(from, to) {
  return {
    kind: "notice",
    text: `You were offline from ${clock(from)} to ${clock(to)}: what was said then is missing here`,
    title: `${from.toLocaleString()} – ${to.toLocaleString()}`,
    time: to,
  };
}

export function clock(time) {
  return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function shortId(id) {
  return id.length > 8 ? `${id.slice(0, 6)}…` : id;
}
