// The box in which a message is written. What was typed is never lost: it leaves the box only to be sent, comes back when
// that failed, and every room keeps its own unfinished text.

import { byId, setInvalid, setText } from "./dom.js";
import { checkMessage, length, MAX_MESSAGE } from "./limits.js";

const COUNT_FROM = MAX_MESSAGE - 500;

export class Composer {
  #rooms;
  #userName;
  #room = null;
  #input = byId("message");

  /** `userName()` is the name to send under. */
  constructor(rooms, userName) {
    this.#rooms = rooms;
    this.#userName = userName;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("keydown", (event) => {
      // While an input method composes a word, Enter belongs to it; Safari says so only by the key code 229.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      if (!event.repeat) this.#send();
    });
    this.#input.addEventListener("input", () => {
      this.#room.draft = this.#input.value;
      this.#hint("");
      this.#fit();
    });
    rooms.addEventListener("change", () => this.#follow(rooms.current));
  }

  focus() {
    this.#input.focus();
  }

  #follow(room) {
    if (room === this.#room) return;
    this.#room = room;
    this.#write(room?.draft ?? "");
    this.#hint("");
  }

  async #send() {
    const room = this.#room;
    const { value, error } = checkMessage(room.draft);
    this.focus();
    if (error) return this.#hint(error, true);
    if (room.sending) return this.#hint("The message before this one is still on its way. Yours is kept.");
    if (room.state !== "open") return this.#hint("Not sent: this room is not connected right now. Your message is kept.", true);

    room.draft = "";
    this.#write("");
    this.#hint("");
    try {
      await this.#rooms.send(room, this.#userName(), value);
    } catch {
      room.draft = room.draft === "" ? value : `${value}\n${room.draft}`;
      if (room !== this.#room) return;
      this.#write(room.draft);
      this.#hint(
        room.state === "open"
          ? "The server did not take this message. It is kept."
          : "The connection broke while sending. Your message is kept: send it again if it does not appear above.",
        true,
      );
    }
  }

  #write(text) {
    this.#input.value = text;
    this.#fit();
  }

  #hint(text, invalid = false) {
    setText(byId("composer-hint"), text);
    byId("composer-help").hidden = text !== "";
    setInvalid(this.#input, invalid);
  }

  /** The box grows with its text (the style sheet bounds it), and counts when the limit comes near. */
  #fit() {
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
    const used = length(this.#input.value);
    const counter = byId("composer-counter");
    counter.hidden = used <= COUNT_FROM;
    counter.classList.toggle("over", used > MAX_MESSAGE);
    setText(counter, counter.hidden ? "" : `${used} / ${MAX_MESSAGE}`);
  }
}
