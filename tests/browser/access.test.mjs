// Whether everybody can use the chat page: by keyboard, with a screen reader, on a phone, in light and dark.
// Runs like page.test.mjs, which says how.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchBrowser, Person, Server } from "./support.mjs";

const DESKTOP = { viewport: { width: 1200, height: 750 } };
const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };
const TOKYO = "Asia/Tokyo";

let browser;
let server;

before(async () => {
  server = await Server.start();
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const limits = { timeout: 90_000 };

test("everything can be done with the keyboard, in an order that makes sense", limits, async (t) => {
  const ana = await Person.arrive(t, browser, DESKTOP);
  const keys = ana.page.keyboard;
  const focused = () =>
    ana.page.evaluate(() => {
      const node = document.activeElement;
      return node.dataset.testid ?? (node.textContent.trim() || node.id);
    });
  const ring = () =>
    ana.page.evaluate(() => {
      const shows = (node) => getComputedStyle(node).outlineStyle !== "none" || getComputedStyle(node).boxShadow.includes("0px 0px 0px 1.5px");
      return shows(document.activeElement) || shows(document.activeElement.parentElement);
    });

  await ana.openLink(server);
  await ana.see("welcome").waitFor();
  assert.equal(await focused(), "welcome-name");
  await keys.type("Ana");
  await keys.press("Tab");
  await keys.type("keys");
  await keys.press("Enter");
  await ana.isConnected();
  assert.equal(await focused(), "message-input");
  await keys.type("one");
  await keys.press("Shift+Enter");
  await keys.type("two");
  await keys.press("Enter");
  await ana.hears("one\ntwo");
  assert.equal(await ana.see("message-input").inputValue(), "");

  // The skip link comes first and leads back to the message box without touching the address.
  await ana.page.locator("body").evaluate((body) => {
    document.activeElement.blur();
    body.tabIndex = -1;
    body.focus();
    body.removeAttribute("tabindex");
  });
  const order = [];
  for (let i = 0; i < 9; i += 1) {
    await keys.press("Tab");
    order.push(await focused());
    assert.ok(await ring(), `the focus is visible on ${order.at(-1)}`);
  }
  assert.deepEqual(order, [
    "Skip to the message box",
    "name-button",
    "room",
    "join-room",
    "join-button",
    "copy-link",
    "leave-room",
    "log",
    "message-input",
  ]);

  for (let i = 0; i < 5; i += 1) await keys.press("Shift+Tab");
  assert.equal(await focused(), "join-room");
  await keys.type("more keys");
  await keys.press("Enter");
  await ana.exactly("room-title", "more keys").waitFor();
  await ana.isConnected();
  assert.equal(await focused(), "message-input");
  await keys.press("Shift+Tab");
  await keys.press("Shift+Tab");
  if ((await focused()) !== "leave-room") await keys.press("Shift+Tab"); // an empty room has one button more
  assert.equal(await focused(), "leave-room");
  await keys.press("Enter");
  await ana.exactly("room-title", "keys").waitFor();
  assert.equal(await focused(), "message-input");

  await ana.page.locator("#skip-link").focus();
  await keys.press("Enter");
  assert.equal(await focused(), "message-input");
  assert.equal(await ana.page.evaluate(() => location.hash), "#room=keys");

  await ana.see("name-button").focus();
  await keys.press("Enter");
  await ana.see("name-input").waitFor();
  await keys.press("Escape");
  await ana.see("name-input").waitFor({ state: "hidden" });
  assert.equal(await focused(), "name-button", "the dialog gives the focus back");
});

test("a screen reader finds landmarks, names and live regions", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  await ana.enter(server, "spoken", "Ana");
  await ana.say("Hello");
  for (const role of ["banner", "main"]) assert.equal(await ana.page.getByRole(role).count(), 1, `one ${role}`);
  await ana.page.getByRole("navigation", { name: "Rooms" }).waitFor();
  const log = ana.page.getByRole("log", { name: "Messages in spoken" });
  assert.equal(await log.getAttribute("aria-live"), "polite");
  await ana.page.getByRole("textbox", { name: "Message", exact: true }).waitFor();
  await ana.page.getByRole("textbox", { name: "Join another room" }).waitFor();
  for (const name of ["Send", "Copy link", "Leave the room", "Change your name, now Ana"]) {
    await ana.page.getByRole("button", { name, exact: true }).waitFor();
  }
  await ana.page.getByRole("heading", { level: 1, name: "spoken" }).waitFor();
  assert.equal(await ana.page.locator("#banner-place").getAttribute("role"), "status");
});

test("on a phone nothing scrolls sideways and no field makes the page zoom", limits, async (t) => {
  const ana = await Person.arrive(t, browser, PHONE);
  const fits = async (where) => {
    const [content, screen] = await ana.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(content <= screen && screen === PHONE.viewport.width, `${where}: ${content} wide on a screen of ${screen}`);
  };
  const long = "Donaudampfschifffahrtsgesellschaftskapitän".repeat(3);
  await ana.openLink(server, "a room with quite a long name for a phone, to be honest");
  await ana.see("welcome").waitFor();
  await fits("welcome");
  await ana.see("welcome-name").fill("Maximiliane-Alexandra von Hohenfels");
  await ana.see("welcome-button").click();
  await ana.isConnected();
  await ana.say(long);
  await ana.sendRaw("a room with quite a long name for a phone, to be honest", [["W".repeat(300), long]]);
  await ana.see("author").filter({ hasText: "WWW" }).waitFor();
  await fits("room");
  assert.ok(await ana.see("message-input").evaluate((node) => node.getBoundingClientRect().bottom <= innerHeight), "the message box is in sight");

  const rooms = ana.page.getByRole("navigation", { name: "Rooms" });
  assert.equal(await rooms.count(), 0, "the closed drawer is out of the way");
  await ana.page.getByRole("button", { name: "Rooms" }).click();
  await rooms.waitFor();
  await fits("drawer");
  await ana.joinAnother("small");
  await rooms.waitFor({ state: "hidden" });
  await ana.say("from the phone");
  const sizes = await ana.page
    .locator("input, textarea")
    .evaluateAll((fields) => fields.map((field) => parseFloat(getComputedStyle(field).fontSize)));
  assert.ok(sizes.every((size) => size >= 16), `fields are at least 16px: ${sizes}`);
  assert.ok(!(await ana.page.locator("meta[name=viewport]").getAttribute("content")).match(/user-scalable|maximum-scale/));
});

test("a conversation in two rooms looks as it should: pictures for light, dark and phone", limits, async (t) => {
  const own = await Server.startFor(t); // rooms with plain names, and nobody else in them
  const mira = await Person.arrive(t, browser, { ...DESKTOP, timezoneId: TOKYO, colorScheme: "light" });
  const jonas = await Person.arrive(t, browser, { ...DESKTOP, timezoneId: TOKYO, colorScheme: "dark" });
  const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
  const aiko = await Person.arrive(t, browser, { ...phone, timezoneId: TOKYO });
  await mira.enter(own, "tea", "Mira");
  await jonas.enter(own, "tea", "Jonas");
  await aiko.enter(own, "tea", "Aiko");
  await mira.joinAnother("release");
  await jonas.joinAnother("release");
  await mira.roomButton("tea").click();
  await jonas.roomButton("tea").click();
  await jonas.say("Good morning! Is the Darjeeling from last week still around?");
  await mira.say("Top shelf, behind the honey. Second flush, the good one.");
  await mira.say("Three minutes, not five this time :)");
  await aiko.say("I’m bringing sencha tomorrow: https://example.org/sencha");
  await jonas.say("Three minutes. Promise.\nI’ll write it on the kettle.");
  await jonas.roomButton("release").click();
  await jonas.say("1.4 is tagged, the images are building.");
  await jonas.say("Anyone against rolling it out at three?");
  await jonas.roomButton("tea").click();
  await mira.titleIs("(2) tea · Hubcast");
  for (const person of [mira, jonas, aiko]) await person.hears("Three minutes. Promise.\nI’ll write it on the kettle.");

  const look = (person) => person.see("author").filter({ hasText: "Aiko" }).evaluate((node) => getComputedStyle(node).color);
  assert.notEqual(await look(mira), await look(jonas), "the dark theme has its own colours");
  await mira.photograph("desktop-light");
  await jonas.photograph("desktop-dark");
  await aiko.photograph("phone");
});
