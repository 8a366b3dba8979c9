// The shown room: its head with the link to share and the way out, and the log that belongs to it.

import { linkTo } from "./address.js";
import { byId, setText } from "./dom.js";
import { LogView } from "./log-view.js";

const COPIED_MS = 2500;

export class RoomView {
  #rooms;
  #logs = new Map();
  #shown = null;
  #copied = null;

  constructor(rooms) {
    this.#rooms = rooms;
    byId("copy-link").addEventListener("click", () => this.#copyLink());
    byId("leave-room").addEventListener("click", () => rooms.leave(rooms.current));
    rooms.addEventListener("opened", ({ detail }) => this.#open(detail.room));
    rooms.addEventListener("closed", ({ detail }) => this.#close(detail.room));
    rooms.addEventListener("entry", ({ detail }) => this.#logs.get(detail.room)?.add(detail.entry));
    rooms.addEventListener("change", () => this.#show(rooms.current));
  }

  #open(room) {
    const log = new LogView(room.name, () => this.#copyLink());
    byId("logs").append(log.node);
    this.#logs.set(room, log);
  }

  #close(room) {
    this.#logs.get(room).node.remove();
    this.#logs.delete(room);
  }

  #show(room) {
    if (room === this.#shown) return;
    this.#logs.get(this.#shown)?.hide();
    this.#shown = room;
    byId("room-view").hidden = room === null;
    this.#sayCopied("");
    if (room === null) return;
    setText(byId("room-title"), room.name);
    byId("room-title").title = room.name;
    this.#logs.get(room).show();
  }

  async #copyLink() {
    try {
      await navigator.clipboard.writeText(linkTo(this.#rooms.current.name));
      this.#sayCopied("Link copied");
    } catch {
      // Browsers offer the clipboard to secure pages only; the address bar shows the same link.
      this.#sayCopied("Copy it from the address bar");
    }
    clearTimeout(this.#copied);
    this.#copied = setTimeout(() => this.#sayCopied(""), COPIED_MS);
  }

  #sayCopied(text) {
    setText(byId("copy-label"), text || "Copy link");
    setText(byId("copy-status"), text);
  }
}
