// One room's line to the hub. ReceiveMessage does not say which room a message belongs to, so every room has a SignalR
// connection of its own: what arrives on it belongs to that room, and its group membership lives and dies with it.
// It never gives up: SignalR's own reconnecting, a first start that failed and a server that closed us all end in another
// attempt, and every new connection joins the room again, because the server forgets memberships with the connection.

import { retryDelay } from "./retry.js";

export class RoomConnection {
  #signalR;
  #room;
  #hub;
  #on;
  #left = false;
  #failures = 0;
  #timer = null;
  #atOnce = false;

  /** `on` has message(user, text), connecting(), joined() and lost(). */
  constructor(signalR, room, on) {
    this.#signalR = signalR;
    this.#room = room;
    this.#on = on;
    this.#hub = new signalR.HubConnectionBuilder()
      .withUrl("/chatHub")
      .withAutomaticReconnect({ nextRetryDelayInMilliseconds: (retry) => retryDelay(retry.previousRetryCount) })
      // The page shows the state itself, and the browser already reports failed requests.
      .configureLogging(signalR.LogLevel.Critical)
      .build();
    this.#hub.on("ReceiveMessage", (user, text) => {
      if (!this.#left) on.message(String(user ?? ""), String(text ?? ""));
    });
    this.#hub.onreconnecting(() => this.#lost());
    this.#hub.onreconnected(() => this.#join());
    this.#hub.onclose(() => {
      this.#lost();
      this.#startLater();
    });
  }

  /** The id that the hub's notices call this connection by; null while there is none. */
  get id() {
    return this.#hub.connectionId;
  }

  open() {
    this.#on.connecting();
    this.#start();
  }

  /** Settles when the hub has handled the message: a rejection means that it may not have been sent. */
  send(user, text) {
    return this.#hub.invoke("SendMessage", this.#room, user, text);
  }

  /** Ends whatever wait there is before the next attempt. */
  async retryNow() {
    if (this.#timer !== null) {
      this.#start();
    } else if (this.#hub.state === this.#signalR.HubConnectionState.Reconnecting) {
      this.#atOnce = true;
      await this.#hub.stop();
    }
  }

  async leave() {
    this.#left = true;
    clearTimeout(this.#timer);
    try {
      await this.#hub.invoke("LeaveRoom", this.#room);
    } catch {
      // Not connected: the server has forgotten us already.
    }
    await this.#hub.stop();
  }

  async #start() {
    clearTimeout(this.#timer);
    this.#timer = null;
    try {
      await this.#hub.start();
    } catch {
      this.#lost();
      this.#startLater();
      return;
    }
    await this.#join();
  }

  async #join() {
    try {
      await this.#hub.invoke("JoinRoom", this.#room);
    } catch {
      // If the connection went away meanwhile, its own handlers go on. If the hub refused, begin anew: onclose follows.
      if (this.#hub.state === this.#signalR.HubConnectionState.Connected) await this.#hub.stop();
      return;
    }
    this.#failures = 0;
    if (!this.#left) this.#on.joined();
  }

  #startLater() {
    if (this.#left) return;
    const delay = this.#atOnce ? 0 : retryDelay(this.#failures++);
    this.#atOnce = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#start(), delay);
  }

  #lost() {
    if (!this.#left) this.#on.lost();
  }
}
