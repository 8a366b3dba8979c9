// The list of rooms with what waits unread in each, and the form that joins another one. On a narrow screen it is a
// drawer behind the menu button.

import { byId, el, setInvalid, setText } from "./dom.js";
import { checkRoom, MAX_ROOMS } from "./limits.js";

// As in the style sheet.
const NARROW = "(max-width: 720px)";

const STATE_TEXT = { connecting: "connecting", open: "", lost: "reconnecting" };

export class Sidebar {
  #rooms;
  #items = new Map();
  #openRoom;

  /** `openRoom(name)` joins and shows a room and returns why it could not, if so. */
  constructor(rooms, openRoom) {
    this.#rooms = rooms;
    this.#openRoom = openRoom;
    byId("join-form").addEventListener("submit", (event) => this.#join(event));
    byId("join-room").addEventListener("input", () => this.hint(""));
    byId("menu-button").addEventListener("click", () => this.#setDrawer(!this.#drawerOpen));
    byId("backdrop").addEventListener("click", () => this.#setDrawer(false));
    matchMedia(NARROW).addEventListener("change", () => this.#setDrawer(false));
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#drawerOpen) return;
      this.#setDrawer(false);
      byId("menu-button").focus();
    });
    rooms.addEventListener("opened", ({ detail }) => this.#add(detail.room));
    rooms.addEventListener("closed", ({ detail }) => this.#remove(detail.room));
    rooms.addEventListener("change", () => this.#refresh());
  }

  hint(text) {
    setText(byId("join-hint"), text);
    setInvalid(byId("join-room"), text !== "");
  }

  #join(event) {
    event.preventDefault();
    const input = byId("join-room");
    const { value, error } = checkRoom(input.value);
    const refused = error ?? this.#openRoom(value);
    this.hint(refused ?? "");
    if (refused) {
      input.focus();
      return;
    }
    input.value = "";
    this.#setDrawer(false);
  }

  #add(room) {
    const badge = el("span", { class: "badge", "aria-hidden": "true" });
    const button = el(
      "button",
      { type: "button", class: "room", "data-testid": "room", title: room.name },
      el("span", { class: "dot" }),
      el("span", { class: "room-label", dir: "auto" }, room.name),
      badge,
    );
    button.addEventListener("click", () => {
      this.#openRoom(room.name);
      this.#setDrawer(false);
    });
    const item = el("li", {}, button);
    byId("room-list").append(item);
    this.#items.set(room, { item, button, badge });
  }

  #remove(room) {
    this.#items.get(room).item.remove();
    this.#items.delete(room);
  }

  #refresh() {
    for (const [room, { button, badge }] of this.#items) {
      button.dataset.state = room.state;
      if (room === this.#rooms.current) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      badge.hidden = room.unread === 0;
      setText(badge, short(room.unread));
      button.setAttribute("aria-label", room.name + spokenState(room));
    }
    setText(byId("room-count"), `${this.#items.size} of ${MAX_ROOMS}`);
    const unread = this.#rooms.unread;
    byId("menu-badge").hidden = unread === 0;
    setText(byId("menu-badge"), short(unread));
  }

  get #drawerOpen() {
    return byId("menu-button").getAttribute("aria-expanded") === "true";
  }

  #setDrawer(open) {
    byId("menu-button").setAttribute("aria-expanded", String(open));
    byId("sidebar").classList.toggle("open", open);
    byId("backdrop").hidden = !open;
    byId("main").inert = open;
  }
}

function short(count) {
  return count > 99 ? "99+" : String(count);
}

function spokenState(room) {
  const unread = room.unread === 0 ? "" : room.unread === 1 ? "1 unread message" : `${room.unread} unread messages`;
  return [STATE_TEXT[room.state], unread].filter(Boolean).map((part) => `, ${part}`).join("");
}
