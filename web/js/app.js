// Puts the page together: loads SignalR, opens the rooms that the address and the last visit ask for, and decides
// whether the welcome or a room is shown.

import { onAddressChange, roomInAddress, showInAddress } from "./address.js";
import { Composer } from "./composer.js";
import { RoomConnection } from "./connection.js";
import { byId, el, setText } from "./dom.js";
import { Identity } from "./identity.js";
import { LOADING_FAILED, loadSignalR } from "./loader.js";
import { RoomView } from "./room-view.js";
import { Rooms } from "./rooms.js";
import { rememberedRooms, rememberRooms } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Status } from "./status.js";
import { Welcome } from "./welcome.js";

loadSignalR().then(start, showLoadingFailed);

function start(signalR) {
  const rooms = new Rooms((name, handlers) => new RoomConnection(signalR, name, handlers));
  const identity = new Identity();
  new RoomView(rooms);
  const composer = new Composer(rooms, () => identity.name);
  const sidebar = new Sidebar(rooms, openRoom);
  const welcome = new Welcome((name, room) => {
    identity.change(name);
    return enter(room);
  });
  new Status(rooms);

  let shown = null;
  rooms.addEventListener("change", () => {
    if (rooms.current === shown) return;
    shown = rooms.current;
    document.body.classList.toggle("in-room", shown !== null);
    showInAddress(shown?.name ?? null);
    rememberRooms(rooms.names);
    if (shown !== null) return welcome.hide();
    welcome.show(identity.name, null);
  });
  rooms.addEventListener("closed", () => rememberRooms(rooms.names));

  onAddressChange(() => followAddress());
  document.addEventListener("visibilitychange", () => rooms.setReading(!document.hidden));
  rooms.setReading(!document.hidden);
  // Both are moments at which waiting longer for the next attempt makes no sense.
  addEventListener("online", () => rooms.retryNow());
  document.addEventListener("visibilitychange", () => document.hidden || rooms.retryNow());
  byId("skip-link").addEventListener("click", (event) => {
    // Following the link would replace the room in the address.
    event.preventDefault();
    if (rooms.current) composer.focus();
    else byId("welcome-name").focus();
  });
  byId("leave-room").addEventListener("click", () => rooms.current && composer.focus());

  if (identity.name === null) invite();
  else enter(null);

  /** Joins and shows a room; returns why it could not, if so. */
  function openRoom(name) {
    const { room, error } = rooms.join(name);
    if (error) return error;
    rooms.select(room);
    rememberRooms(rooms.names);
    // On a touch screen the keyboard would cover the messages unasked.
    if (matchMedia("(pointer: fine)").matches) composer.focus();
  }

  /** Opens the rooms of the last visit and then the one asked for, which is the one shown. */
  function enter(asked) {
    const inAddress = roomInAddress();
    const before = rememberedRooms();
    const wanted = asked ?? inAddress?.value ?? before.at(-1);
    for (const name of before) rooms.join(name);
    const refused = wanted === undefined ? undefined : openRoom(wanted);
    if (rooms.list.length === 0) {
      welcome.show(identity.name, null);
      welcome.roomHint(refused ?? inAddress?.error ?? "");
    } else {
      if (rooms.current === null) rooms.select(rooms.list[0]);
      sidebar.hint(refused ?? inAddress?.error ?? "");
    }
    return refused;
  }

  function invite() {
    const asked = roomInAddress();
    welcome.show(null, asked?.value ?? null);
    if (asked?.error) welcome.roomHint(asked.error);
  }

  function followAddress() {
    const asked = roomInAddress();
    if (identity.name === null) return invite();
    if (asked === null) return showInAddress(rooms.current?.name ?? null);
    const refused = asked.error ?? openRoom(asked.value);
    if (!refused) return;
    showInAddress(rooms.current?.name ?? null);
    if (rooms.current === null) welcome.roomHint(refused);
    else sidebar.hint(refused);
  }
}

function showLoadingFailed() {
  const trouble = byId("trouble");
  trouble.append(
    el("h1", {}, LOADING_FAILED.title),
    el("p", {}, LOADING_FAILED.text),
    el("p", {}, LOADING_FAILED.advice),
  );
  trouble.hidden = false;
  byId("overall").dataset.state = "lost";
  setText(byId("overall-text"), "Not started");
}
