// The first thing a visitor sees, and again whoever left the last room: who are you, and which room?

import { byId, setInvalid, setText } from "./dom.js";
import { checkName, checkRoom } from "./limits.js";

const LEAD = "Choose a name and a room, then send the room’s link to whoever should be there.";

export class Welcome {
  #enter;

  /** `enter(name, room)` is called with a checked name and room, and returns why it could not, if so. */
  constructor(enter) {
    this.#enter = enter;
    byId("welcome-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    for (const field of ["welcome-name", "welcome-room"]) {
      byId(field).addEventListener("input", () => hint(field, ""));
    }
  }

  /** `invited` is the room that the address asks for, already checked, or null. */
  show(name, invited) {
    byId("welcome").hidden = false;
    byId("welcome-name").value = name ?? "";
    byId("welcome-room").value = invited ?? "";
    setText(byId("welcome-lead"), invited === null ? LEAD : `You are invited to the room “${invited}”. Choose a name and come in.`);
    byId(name === null ? "welcome-name" : "welcome-room").focus();
  }

  hide() {
    byId("welcome").hidden = true;
  }

  roomHint(text) {
    hint("welcome-room", text);
  }

  #submit() {
    const name = checkName(byId("welcome-name").value);
    const room = checkRoom(byId("welcome-room").value);
    hint("welcome-name", name.error ?? "");
    hint("welcome-room", room.error ?? "");
    if (name.error) byId("welcome-name").focus();
    else if (room.error) byId("welcome-room").focus();
    else hint("welcome-room", this.#enter(name.value, room.value) ?? "");
  }
}

function hint(field, text) {
  setText(byId(`${field}-hint`), text);
  setInvalid(byId(field), text !== "");
}
