// Who the reader is to the others: the name, where it is shown, and the dialog that changes it.

import { byId, setInvalid, setText } from "./dom.js";
import { checkName } from "./limits.js";
import { initialOf, paint } from "./people.js";
import { rememberedName, rememberName } from "./settings.js";

export class Identity {
  name = rememberedName();

  constructor() {
    const dialog = byId("name-dialog");
    byId("name-button").addEventListener("click", () => {
      byId("name-input").value = this.name;
      this.#hint("");
      dialog.showModal();
      byId("name-input").select();
    });
    byId("name-cancel").addEventListener("click", () => dialog.close());
    byId("name-input").addEventListener("input", () => this.#hint(""));
    byId("name-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const { value, error } = checkName(byId("name-input").value);
      this.#hint(error ?? "");
      if (error) return byId("name-input").focus();
      this.change(value);
      dialog.close();
    });
    this.#show();
  }

  change(name) {
    this.name = name;
    rememberName(name);
    this.#show();
  }

  #show() {
    byId("name-button").hidden = this.name === null;
    if (this.name === null) return;
    setText(byId("name-text"), this.name);
    setText(byId("name-avatar"), initialOf(this.name));
    paint(byId("name-avatar"), this.name);
  }

  #hint(text) {
    setText(byId("name-hint"), text);
    setInvalid(byId("name-input"), text !== "");
  }
}
