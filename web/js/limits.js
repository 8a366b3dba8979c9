// What the page accepts as a name, a room and a message, and the words it refuses with.
// The server takes 32 KiB a message, framing included; 4000 characters stay below that even when every one of them has to
// be escaped in JSON. Lengths are counted as people count: an emoji is one character (one code point).

export const MAX_NAME = 40;
export const MAX_ROOM = 60;
export const MAX_MESSAGE = 4000;

// Every room has a connection of its own. Where WebSockets are blocked, SignalR keeps an HTTP request open for each, and
// browsers allow six to a host: the sixth has to stay free for sending.
export const MAX_ROOMS = 5;

// The hub's own notices come under this name.
export const SYSTEM_NAME = "System";

export function length(text) {
  return [...text].length;
}

/** One line, no control characters, one way of writing é: a room's name decides who meets, so look-alikes must be equal. */
export function cleanLine(text) {
  return String(text ?? "").normalize("NFC").replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
}

// Letters, digits, marks or symbols: a name made of invisible characters only would look like no name.
const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}]/u;

// What a name could hide behind, or be turned around with: format characters (marks of direction, of zero width), what need not
// be shown, and letters that are blank. A joiner between two visible characters is none of it, nor what makes an emoji of a sign:
// emoji, and the scripts of Persian and of India, need it. Latin, Greek and Cyrillic (up to U+052F) do not. The server refuses the same.
const NOT_SEEN = String.raw`\p{Cf}\p{Default_Ignorable_Code_Point}\u2800`;
const UNSEEN = new RegExp(`[${NOT_SEEN}]`, "u");
const JOINABLE = String.raw`[^${NOT_SEEN}\s\u0000-\u052f]`;
const JOINERS = new RegExp(String.raw`(?<=${JOINABLE}\ufe0f*)(?:[\u200c\u200d](?=[^${NOT_SEEN}\s])|\ufe0f)`, "gu");

function showsAll(text) {
  return !UNSEEN.test(text.replace(JOINERS, ""));
}

export function checkName(text) {
  const value = cleanLine(text);
  if (!VISIBLE.test(value)) return { error: "Please choose a name." };
  if (!showsAll(value)) return { error: "Please choose a name without invisible characters." };
  if (length(value) > MAX_NAME) return { error: tooLong("name", value, MAX_NAME) };
  if (value.toLowerCase() === SYSTEM_NAME.toLowerCase()) return { error: "“System” is the server’s name. Please choose another." };
  return { value };
}

export function checkRoom(text) {
  const value = cleanLine(text);
  if (!VISIBLE.test(value)) return { error: "Please enter a room’s name." };
  if (!showsAll(value)) return { error: "Please enter a room’s name without invisible characters." };
  if (length(value) > MAX_ROOM) return { error: tooLong("room name", value, MAX_ROOM) };
  return { value };
}

export function checkMessage(text) {
  const value = text.trim();
  if (value === "") return { error: "There is nothing to send yet." };
  if (length(value) > MAX_MESSAGE) return { error: tooLong("message", value, MAX_MESSAGE) };
  return { value };
}

function tooLong(what, value, max) {
  return `This ${what} is too long: ${length(value)} characters, at most ${max} are possible.`;
}
