// What the page remembers between visits: the person's name and the rooms that were open.
// A browser may refuse storage (private windows, blocked site data); the page then works and simply forgets.

import { checkName, checkRoom, MAX_ROOMS } from "./limits.js";

const NAME = "hubcast.name";
const ROOMS = "hubcast.rooms";

export function rememberedName() {
  return checkName(read(NAME) ?? "").value ?? null;
}

export function rememberName(name) {
  write(NAME, name);
}

export function rememberedRooms() {
  try {
    const rooms = JSON.parse(read(ROOMS) ?? "[]");
    if (!Array.isArray(rooms)) return [];
    const names = rooms.map((room) => checkRoom(room).value).filter((room) => room !== undefined);
    return [...new Set(names)].slice(0, MAX_ROOMS);
  } catch {
    return [];
  }
}

export function rememberRooms(rooms) {
  write(ROOMS, JSON.stringify(rooms));
}

function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Refused or full: nothing to do, the page does not depend on it.
  }
}
