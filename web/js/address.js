// The current room lives in the page's address as #room=tea, so that a copied address or a bookmark opens that room.

import { checkRoom } from "./limits.js";

/** The room that the address asks for: { value }, { error } when its name is not acceptable, or null when there is none. */
export function roomInAddress() {
  const asked = new URLSearchParams(location.hash.slice(1)).get("room");
  return asked === null || asked === "" ? null : checkRoom(asked);
}

export function linkTo(room) {
  const url = new URL(location.href);
  url.hash = hashFor(room);
  return url.href;
}

/** The first room replaces the bare address; after that each room is a step that the back button undoes. */
export function showInAddress(room) {
  const hash = room === null ? "" : hashFor(room);
  if (location.hash === hash) return;
  const url = location.pathname + location.search + hash;
  if (location.hash === "" || room === null) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
}

/** Calls back when the reader moves to another address: back, forward, a link, or typing. */
export function onAddressChange(callback) {
  addEventListener("hashchange", callback);
}

function hashFor(room) {
  return "#" + new URLSearchParams({ room });
}
