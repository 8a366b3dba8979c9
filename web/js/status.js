// How the connections are: one line in the header for all rooms, one in the room's head and a banner for the shown room,
// and the number of unread messages in the window's title.

import { byId, setText } from "./dom.js";

const ROOM_STATE = { connecting: "Joining…", open: "You are in this room", lost: "Reconnecting…" };

export class Status {
  #rooms;

  constructor(rooms) {
    this.#rooms = rooms;
    rooms.addEventListener("change", () => this.#refresh());
    byId("retry-button").addEventListener("click", () => rooms.retryNow());
    this.#refresh();
  }

  #refresh() {
    const { list, current, unread } = this.#rooms;
    const [state, text] = overall(list);
    byId("overall").dataset.state = state;
    setText(byId("overall-text"), text);

    const lost = current?.state === "lost";
    byId("banner").hidden = !lost;
    setText(
      byId("banner-text"),
      !lost ? "" : current.joinedBefore
        ? "The connection was lost, trying to come back. What you write is kept."
        : "The server cannot be reached, trying again. What you write is kept.",
    );
    if (current) setText(byId("room-state"), ROOM_STATE[current.state]);

    const where = current ? `${current.name} · Hubcast` : "Hubcast chat";
    const title = unread > 0 ? `(${unread}) ${where}` : where;
    if (document.title !== title) document.title = title;
  }
}

function overall(list) {
  const lost = list.filter((room) => room.state === "lost").length;
  if (list.length === 0) return ["idle", "Not in a room"];
  if (lost === list.length) return ["lost", "Reconnecting…"];
  if (lost > 0) return ["lost", `Reconnecting ${lost} of ${list.length} rooms…`];
  if (list.some((room) => room.state === "connecting")) return ["connecting", "Connecting…"];
  return ["open", "Connected"];
}
