// The messages of one room as the reader sees them: bounded, following the newest unless the reader scrolled up, and then
// offering a way back down. Each room keeps its own, so that a hidden one stays silent and remembers where it was read.

import { el, setText } from "./dom.js";
import { clock } from "./entries.js";
import { linkify } from "./linkify.js";
import { initialOf, paint } from "./people.js";

const MAX_ENTRIES = 500;
const NEAR_THE_END = 48; // pixels
const SAME_BREATH_MS = 3 * 60_000;

export class LogView {
  #entries = el("ol", { class: "entries" });
  #scroller;
  #newest;
  #empty;
  #following = true;
  #missed = 0;
  #top = 0;
  #last = null;

  constructor(roomName, onCopyLink) {
    const copy = el("button", { type: "button", class: "button" }, "Copy the room’s link");
    copy.addEventListener("click", onCopyLink);
    this.#empty = el(
      "div",
      { class: "empty", "data-testid": "empty" },
      el("p", { class: "empty-title" }, "No messages yet"),
      el("p", { class: "small" }, "Say something, or invite somebody: whoever opens the link is in this room with you."),
      copy,
    );
    // A region that scrolls must be reachable without a mouse, hence the tabindex.
    this.#scroller = el(
      "div",
      { class: "log", role: "log", "aria-live": "polite", "aria-label": `Messages in ${roomName}`, tabindex: "0", "data-testid": "log" },
      this.#entries,
    );
    this.#newest = el("button", { type: "button", class: "newest", "data-testid": "new-messages", hidden: true });
    this.#newest.addEventListener("click", () => this.toNewest());
    this.node = el("div", { class: "log-place", hidden: true }, this.#scroller, this.#empty, this.#newest);
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // A keyboard that opens or a banner that appears must not push the newest message out of sight.
    new ResizeObserver(() => this.#following && this.#toEnd()).observe(this.#scroller);
  }

  show() {
    this.node.hidden = false;
    if (this.#following) this.#toEnd();
    else this.#scroller.scrollTop = this.#top;
  }

  hide() {
    this.node.hidden = true;
  }

  add(entry) {
    this.#entries.append(entry.kind === "notice" ? noticeNode(entry) : messageNode(entry, this.#continues(entry)));
    this.#last = entry;
    if (entry.kind === "message") this.#empty.hidden = true;
    while (this.#entries.childElementCount > MAX_ENTRIES) {
      this.#entries.firstElementChild.remove();
      this.#entries.firstElementChild.classList.remove("continued");
    }
    if (entry.own) this.#following = true;
    if (this.#following) this.#toEnd();
    else if (entry.kind === "message") this.#missed += 1;
    this.#showNewest();
  }

  toNewest() {
    this.#following = true;
    this.#toEnd();
    this.#showNewest();
    this.#scroller.focus({ preventScroll: true });
  }

  #continues(entry) {
    const last = this.#last;
    return last?.kind === "message" && last.user === entry.user && last.own === entry.own && entry.time - last.time < SAME_BREATH_MS;
  }

  #toEnd() {
    this.#missed = 0;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #scrolled() {
    if (this.node.hidden) return;
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#top = scrollTop;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR_THE_END;
    if (this.#following) this.#missed = 0;
    this.#showNewest();
  }

  #showNewest() {
    const count = this.#missed;
    this.#newest.hidden = this.#following;
    setText(this.#newest, count === 0 ? "Newest messages ↓" : count === 1 ? "1 new message ↓" : `${count} new messages ↓`);
  }
}

function messageNode(entry, continued) {
  const avatar = el("span", { class: "avatar", "aria-hidden": "true" }, initialOf(entry.user));
  const author = el("span", { class: "author", "data-testid": "author", dir: "auto", title: entry.user }, entry.user);
  const own = entry.own && el("span", { class: "own-mark" }, "you");
  const text = el("p", { class: "text", "data-testid": "text", dir: "auto" }, ...linkify(entry.text));
  const node = el(
    "li",
    { class: ["message", entry.own && "own", continued && "continued"].filter(Boolean).join(" "), "data-testid": "message" },
    avatar,
    el("div", { class: "meta" }, author, own, timeNode(entry.time)),
    text,
  );
  paint(node, entry.user);
  return node;
}

function noticeNode(entry) {
  return el("li", { class: "notice", "data-testid": "notice", title: entry.title }, entry.text, " ", timeNode(entry.time));
}

function timeNode(time) {
  return el("time", { datetime: time.toISOString(), title: time.toLocaleString() }, clock(time));
}
