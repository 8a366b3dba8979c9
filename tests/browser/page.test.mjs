// What the chat page does, in a real browser against the real server: talking, coming back, what is refused, what is kept.
//   HUBCAST_BIN=target/debug/hubcast npm test --prefix tests/browser
// CHROMIUM names the browser (default /usr/bin/chromium). Pictures of what was seen are left in target/screenshots/.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launchBrowser, Person, Server, WEB } from "./support.mjs";

const DESKTOP = { viewport: { width: 1200, height: 750 } };
// What a browser itself says when a server is away. The page cannot keep it from saying so.
const SERVER_AWAY = [
  /^Failed to load resource: net::ERR_(CONNECTION|EMPTY|SOCKET)/,
  /^Failed to load resource: the server responded with a status of 503/,
  /^WebSocket connection to .* failed/,
];

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

test("two people who open the same link talk with each other", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  const ben = await Person.arrive(t, browser);
  await ana.enter(server, "hello & welcome", "Ana");
  await ben.openLink(server, "hello & welcome");
  await ben.page.getByText("You are invited to the room “hello & welcome”.").waitFor();
  assert.equal(await ben.see("welcome-room").inputValue(), "hello & welcome");
  await ben.see("welcome-name").fill("Ben");
  await ben.see("welcome-button").click();
  await ben.isConnected();

  await ana.say("Hello Ben");
  await ben.hears("Hello Ben");
  await ben.say("Hello Ana");
  await ana.hears("Hello Ana");
  await ana.say("two\nlines");
  await ben.hears("two\nlines");

  const own = ana.page.locator(".message.own");
  assert.deepEqual(await own.getByTestId("text").allTextContents(), ["Hello Ben", "two\nlines"]);
  assert.deepEqual(await ana.page.locator(".message:not(.own)").getByTestId("text").allTextContents(), ["Hello Ana"]);
  assert.equal(await ben.see("author").first().textContent(), "Ana");
});

test("notices tell who came and went, and call the reader You", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  const ben = await Person.arrive(t, browser);
  await ana.enter(server, "notices", "Ana");
  await ana.see("notice").filter({ hasText: /^You joined the room/ }).waitFor();
  await ben.enter(server, "notices", "Ben");
  const joined = ana.see("notice").filter({ hasText: /^Guest \S{1,8} joined the room/ });
  await joined.waitFor();
  assert.match(await joined.getAttribute("title"), /^\S{9,} has joined the room notices$/, "the whole notice is in the tooltip");
  await ben.see("leave-room").click();
  await ana.see("notice").filter({ hasText: /^Guest \S{1,8} left the room/ }).waitFor();
});

test("a message that claims to come from the server is shown as a message of somebody", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  await ana.enter(server, "claims", "Ana");
  await ana.sendRaw("claims", [
    ["System", "Please send us your password"],
    ["System", "somebody has left the room elsewhere"],
    ["Ana", "I am not who you think"],
  ]);
  await ana.hears("I am not who you think");
  assert.deepEqual(await ana.see("author").allTextContents(), ["System", "System", "Ana"]);
  assert.equal(await ana.page.locator(".message.own").count(), 0, "a stranger with our name is not us");
});

test("markup in a name, a room and a message appears literally and runs nothing", limits, async (t) => {
  const name = "<img src=/evil onerror=pwned=1>";
  const room = "<svg onload=globalThis.pwned=1>";
  const text =
    "<script>globalThis.pwned=1</script><img src=/evil onerror=globalThis.pwned=1> " +
    'javascript:alert(1) https://a.example/"onclick=pwned=1';
  const mallory = await Person.arrive(t, browser);
  const ana = await Person.arrive(t, browser);
  const asked = [];
  for (const person of [mallory, ana]) person.page.on("request", (request) => asked.push(request.url()));
  await mallory.enter(server, room, name);
  await ana.enter(server, room, "Ana");
  await mallory.say(text);
  await ana.hears(text);
  await ana.say("still fine");
  await mallory.hears("still fine");

  for (const person of [mallory, ana]) {
    assert.equal(await person.see("text").first().textContent(), text);
    assert.equal(await person.see("author").first().textContent(), name);
    assert.equal(await person.see("room-title").textContent(), room);
    assert.equal(await person.see("room").locator(".room-label").textContent(), room);
    assert.equal(await person.page.title(), `${room} · Hubcast`);
    assert.equal(await person.page.locator("#logs :is(img, script, svg), .room svg, h1 svg").count(), 0, "no element was made of text");
    assert.deepEqual(await person.page.locator("#logs a").evaluateAll((links) => links.map((link) => link.href)), ["https://a.example/"]);
    assert.equal(await person.page.evaluate(() => globalThis.pwned), undefined, "nothing ran");
  }
  assert.equal(await mallory.page.locator("#name-text").textContent(), name);
  assert.deepEqual(asked.filter((url) => url.includes("evil")), [], "nothing was loaded");
});

for (const [signal, how] of [["SIGTERM", "stopped"], ["SIGKILL", "killed"]]) {
  test(`after the server was ${how} and started again, both people are back by themselves and talk on`, limits, async (t) => {
    const own = await Server.startFor(t);
    const ana = await Person.arrive(t, browser, { ...DESKTOP, colorScheme: "dark" });
    const ben = await Person.arrive(t, browser);
    for (const person of [ana, ben]) person.allowedErrors = SERVER_AWAY;
    await ana.enter(own, "harbour", "Ana");
    await ana.joinAnother("kitchen");
    await ana.roomButton("harbour").click();
    await ben.enter(own, "harbour", "Ben");
    await ana.say("Before");
    await ben.say("I hear you");
    await ana.hears("I hear you");

    await own.stop(signal);
    for (const person of [ana, ben]) {
      await person.see("banner").waitFor();
      assert.match(await person.see("banner").textContent(), /The connection was lost, trying to come back/);
      assert.equal(await person.see("room-state").textContent(), "Reconnecting…");
    }
    await ana.type("Written while away");
    await ana.see("composer-hint").filter({ hasText: "Not sent" }).waitFor();
    assert.equal(await ana.see("message-input").inputValue(), "Written while away", "the text is kept");
    if (signal === "SIGTERM") await ana.photograph("reconnecting");

    await own.startAgain();
    for (const person of [ana, ben]) {
      await person.isConnected();
      await person.see("banner").waitFor({ state: "hidden" });
      for (const notice of [/^You are back in the room/, /^You were offline from/]) {
        await person.page.locator(".log:visible").getByTestId("notice").filter({ hasText: notice }).waitFor();
      }
    }
    await ana.see("message-input").press("Enter");
    await ben.hears("Written while away");
    await ben.say("And after");
    await ana.hears("And after");
    await ana.roomButton("kitchen").click();
    await ana.say("This room is back as well");
  });
}

test("a page opened while the server is away keeps trying until the room can be joined", limits, async (t) => {
  const own = await Server.startFor(t);
  const ana = await Person.arrive(t, browser);
  ana.allowedErrors = SERVER_AWAY;
  await ana.openLink(own, "patience");
  await ana.see("welcome-name").fill("Ana");
  await own.stop();
  await ana.see("welcome-button").click();
  await ana.see("banner").filter({ hasText: "The server cannot be reached" }).waitFor();
  await own.startAgain();
  await ana.isConnected();
  await ana.say("Here at last");
});

test("Try now ends the wait before the next attempt", limits, async (t) => {
  const own = await Server.startFor(t);
  const ana = await Person.arrive(t, browser);
  ana.allowedErrors = SERVER_AWAY;
  await ana.openLink(own, "impatience");
  await ana.see("welcome-name").fill("Ana");
  await own.stop();
  const nextAttempt = (timeout) => ana.page.waitForEvent("requestfailed", { timeout });
  const first = nextAttempt();
  await ana.see("welcome-button").click();
  await first;
  for (let retry = 1; retry <= 4; retry += 1) await nextAttempt();
  // The page now waits four seconds at least by itself.
  const attempt = nextAttempt(3000);
  await ana.see("retry-button").click();
  await attempt;
});

test("a room that was left sends nothing more", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  const ben = await Person.arrive(t, browser);
  const sockets = [];
  const frames = [];
  ana.page.on("websocket", (socket) => {
    sockets.push(socket);
    socket.on("framereceived", ({ payload }) => frames.push(String(payload)));
  });
  for (const person of [ana, ben]) {
    await person.enter(server, "left-alone", person === ana ? "Ana" : "Ben");
    await person.joinAnother("stays");
    await person.roomButton("left-alone").click();
  }
  await ben.say("You hear this");
  await ana.hears("You hear this");
  await ana.see("leave-room").click();
  await ana.exactly("room-title", "stays").waitFor();
  await ben.see("notice").filter({ hasText: "left the room" }).waitFor();
  assert.equal(await ana.roomButton("left-alone").count(), 0);
  assert.equal(await ana.page.evaluate(() => location.hash), "#room=stays");

  await ben.say("You do not hear this");
  await ben.roomButton("stays").click();
  await ben.say("But this");
  await ana.hears("But this");
  assert.ok(!frames.some((frame) => frame.includes("You do not hear this")), "nothing of it reached the page");
  assert.equal(sockets.filter((socket) => !socket.isClosed()).length, 1, "one connection for the one room");

  await ana.see("leave-room").click();
  await ana.see("welcome").waitFor();
  assert.equal(await ana.page.evaluate(() => location.hash), "");
  await ana.titleIs("Hubcast chat");
  await ana.page.reload();
  await ana.see("welcome").waitFor();
  assert.equal(await ana.see("welcome-name").inputValue(), "Ana");
});

test("several rooms keep their messages apart and count what is unread", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  const ben = await Person.arrive(t, browser);
  await ana.enter(server, "north", "Ana");
  await ana.joinAnother("south");
  await ben.enter(server, "north", "Ben");
  await ben.say("first");
  await ben.say("second");

  await ana.titleIs("(2) south · Hubcast");
  assert.equal(await ana.roomButton("north").locator(".badge").textContent(), "2");
  await ana.page.getByRole("button", { name: "north, 2 unread messages" }).waitFor();
  assert.equal(await ana.page.locator(".log:visible").getByTestId("message").count(), 0, "nothing of north is shown in south");

  await ana.roomButton("north").click();
  await ana.titleIs("north · Hubcast");
  await ana.roomButton("north").locator(".badge").waitFor({ state: "hidden" });
  assert.deepEqual(await ana.page.locator(".log:visible").getByTestId("text").allTextContents(), ["first", "second"]);

  // A page in the background counts the current room too. Headless browsers have no background, so the page is told.
  const background = (hidden) =>
    ana.page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { value, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await background(true);
  await ben.say("third");
  await ana.titleIs("(1) north · Hubcast");
  await background(false);
  await ana.titleIs("north · Hubcast");
});

test("the number of rooms is bounded, and the page says so", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  await ana.enter(server, "room 1", "Ana");
  for (const room of ["room 2", "room 3", "room 4", "room 5"]) await ana.joinAnother(room);
  await ana.see("join-room").fill("room 6");
  await ana.see("join-button").click();
  await ana.see("join-hint").filter({ hasText: "You are in 5 rooms, the most this page keeps open." }).waitFor();
  assert.equal(await ana.see("room").count(), 5);
  await ana.page.evaluate(() => (location.hash = "#room=room+6"));
  await ana.page.waitForFunction(() => location.hash === "#room=room+5");
  await ana.see("leave-room").click();
  await ana.joinAnother("room 6");
});

for (const [missing, transport] of [[["WebSocket"], "ServerSentEvents"], [["WebSocket", "EventSource"], "LongPolling"]]) {
  test(`without WebSockets, over ${transport}, all rooms still work at once`, limits, async (t) => {
    const answer = await fetch(`${server.url}/chatHub/negotiate?negotiateVersion=1`, { method: "POST" });
    const offered = (await answer.json()).availableTransports.map(({ transport }) => transport);
    if (!offered.includes(transport)) return t.skip(`the server offers ${offered} only`);

    const ana = await Person.arrive(t, browser);
    await ana.context.addInitScript((names) => names.forEach((name) => delete globalThis[name]), missing);
    await ana.enter(server, `${transport} 1`, "Ana");
    for (const number of [2, 3, 4, 5]) await ana.joinAnother(`${transport} ${number}`);
    for (const number of [1, 2, 3, 4, 5]) {
      await ana.roomButton(`${transport} ${number}`).click();
      await ana.say(`hello ${number}`);
    }
  });
}

test("names, rooms and messages that are empty, too long or not to be seen are refused with a hint", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  await ana.openLink(server);
  const refusals = [
    ["", "ok", "welcome-name-hint", "Please choose a name."],
    ["\u200b \u200b", "ok", "welcome-name-hint", "Please choose a name."],
    ["n".repeat(41), "ok", "welcome-name-hint", "This name is too long: 41 characters, at most 40 are possible."],
    ["system", "ok", "welcome-name-hint", "“System” is the server’s name. Please choose another."],
    ["\u202eanA", "ok", "welcome-name-hint", "Please choose a name without invisible characters."],
    ["\u3164", "ok", "welcome-name-hint", "Please choose a name without invisible characters."],
    ["Ana\u200d", "ok", "welcome-name-hint", "Please choose a name without invisible characters."],
    ["Ana", "te\u00ada", "welcome-room-hint", "Please enter a room’s name without invisible characters."],
    ["Ana", "   ", "welcome-room-hint", "Please enter a room’s name."],
    ["Ana", "r".repeat(61), "welcome-room-hint", "This room name is too long: 61 characters, at most 60 are possible."],
  ];
  for (const [name, room, hint, text] of refusals) {
    await ana.see("welcome-name").fill(name);
    await ana.see("welcome-room").fill(room);
    await ana.see("welcome-button").click();
    await ana.exactly(hint, text).waitFor();
    const field = ana.see(hint.replace("-hint", ""));
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    assert.ok(await field.evaluate((node) => node === document.activeElement), "the refused field has the focus");
  }
  const longest = { name: "👩".repeat(37) + "👩\u200d👧", room: "r".repeat(60) };
  await ana.see("welcome-name").fill(longest.name);
  await ana.see("welcome-room").fill(longest.room);
  await ana.see("welcome-button").click();
  await ana.exactly("room-title", longest.room).waitFor();
  await ana.isConnected();

  await ana.type(" \n ");
  await ana.exactly("composer-hint", "There is nothing to send yet.").waitFor();
  await ana.type("m".repeat(4001));
  await ana.exactly("composer-hint", "This message is too long: 4001 characters, at most 4000 are possible.").waitFor();
  await ana.exactly("composer-counter", "4001 / 4000").waitFor();
  assert.equal((await ana.see("message-input").inputValue()).length, 4001, "the text is kept");
  assert.equal(await ana.see("message").count(), 0, "nothing was sent");
  // Four bytes each: the longest message there can be passes the server's limit.
  await ana.say("🫖".repeat(4000));
  await ana.see("join-room").fill(" ");
  await ana.see("join-button").click();
  await ana.exactly("join-hint", "Please enter a room’s name.").waitFor();
});

test("the name and the rooms are remembered, and the address decides which room is shown", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  await ana.enter(server, "library", "Ana Müller");
  await ana.joinAnother("café / garden #1");
  assert.equal(await ana.page.evaluate(() => location.hash), "#room=caf%C3%A9+%2F+garden+%231");

  await ana.page.reload();
  await ana.isConnected();
  assert.equal(await ana.page.locator("#name-text").textContent(), "Ana Müller");
  await ana.exactly("room-title", "café / garden #1").waitFor();
  await ana.roomButton("library").waitFor();

  await ana.page.goBack();
  await ana.exactly("room-title", "library").waitFor();
  await ana.page.evaluate(() => (location.hash = "#room=attic"));
  await ana.exactly("room-title", "attic").waitFor();
  assert.equal(await ana.see("room").count(), 3);

  await ana.see("name-button").click();
  await ana.see("name-input").fill("Anna");
  await ana.see("name-save").click();
  await ana.isConnected();
  await ana.say("under a new name");
  assert.equal(await ana.see("author").last().textContent(), "Anna");
  await ana.openLink(server);
  await ana.page.reload();
  await ana.isConnected();
  assert.equal(await ana.page.locator("#name-text").textContent(), "Anna");
});

test("the room's link can be copied", limits, async (t) => {
  const ana = await Person.arrive(t, browser, { permissions: ["clipboard-read", "clipboard-write"] });
  await ana.enter(server, "to share", "Ana");
  await ana.see("copy-link").click();
  await ana.see("copy-link").filter({ hasText: "Link copied" }).waitFor();
  assert.equal(await ana.page.evaluate(() => navigator.clipboard.readText()), `${server.url}/#room=to+share`);
});

test("the page works where the browser refuses to remember anything", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  await ana.context.addInitScript(() => {
    Object.defineProperty(globalThis, "localStorage", {
      get() {
        throw new DOMException("refused", "SecurityError");
      },
    });
  });
  await ana.enter(server, "forgetful", "Ana");
  await ana.say("I am here");
});

test("a reader who scrolled up stays there and is told of new messages", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  await ana.enter(server, "long", "Ana");
  await ana.sendRaw("long", Array.from({ length: 60 }, (_, i) => ["Ben", `line ${i}`]));
  await ana.hears("line 59");
  const log = ana.see("log");
  const fromEnd = () => log.evaluate((node) => node.scrollHeight - node.scrollTop - node.clientHeight);
  assert.ok((await fromEnd()) < 2, "the newest message is in sight");

  await log.evaluate((node) => (node.scrollTop = 100));
  await ana.see("new-messages").waitFor();
  await ana.sendRaw("long", [["Ben", "one more"]]);
  await ana.exactly("new-messages", "1 new message ↓").waitFor();
  assert.equal(await log.evaluate((node) => node.scrollTop), 100, "the reader was not moved");
  await ana.joinAnother("long, elsewhere");
  await ana.roomButton("long").first().click();
  assert.equal(await log.first().evaluate((node) => node.scrollTop), 100, "and is still there after a look elsewhere");
  await ana.see("new-messages").first().click();
  assert.ok((await log.first().evaluate((node) => node.scrollHeight - node.scrollTop - node.clientHeight)) < 2);
});

test("a room keeps the newest five hundred entries only", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  await ana.enter(server, "flood", "Ana");
  await ana.sendRaw("flood", Array.from({ length: 520 }, (_, i) => ["Ben", `drop ${i}`]));
  await ana.hears("drop 519");
  assert.equal(await ana.see("message").count(), 500);
  assert.equal(await ana.see("text").first().textContent(), "drop 20");
  assert.ok(await ana.see("author").first().isVisible(), "the oldest one left says who wrote it");
});

const LOCAL_LIBRARY = "**/lib/signalr.min.js";
const CDN_LIBRARY = "https://cdn.jsdelivr.net/npm/@microsoft/signalr@10.0.11/dist/browser/signalr.min.js";

async function withoutLocalLibrary(person, cdnAnswer) {
  await person.context.route(LOCAL_LIBRARY, (route) => route.fulfill({ status: 404, body: "not installed" }));
  await person.context.route("https://cdn.jsdelivr.net/**", (route) => {
    assert.equal(route.request().url(), CDN_LIBRARY);
    return cdnAnswer === null
      ? route.abort("failed")
      : route.fulfill({ body: cdnAnswer, contentType: "application/javascript", headers: { "access-control-allow-origin": "*" } });
  });
}

function publishedLibrary() {
  return readFileSync(`${WEB}/node_modules/@microsoft/signalr/dist/browser/signalr.min.js`);
}

test("without the server's own copy of SignalR the page takes the published one from the CDN", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  ana.allowedErrors = [/^Failed to load resource: .*404.*signalr\.min\.js$/];
  await withoutLocalLibrary(ana, publishedLibrary());
  await ana.enter(server, "from afar", "Ana");
  await ana.say("It works all the same");
});

test("a copy that somebody changed on the CDN does not run, and the page says what to do", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  ana.allowedErrors = [/^Failed to load resource: .*404.*signalr\.min\.js$/, /^Failed to find a valid digest in the 'integrity' attribute/];
  await withoutLocalLibrary(ana, Buffer.concat([publishedLibrary(), Buffer.from("\nglobalThis.pwned = 1;")]));
  await ana.openLink(server, "from afar");
  await ana.see("trouble").waitFor();
  assert.match(await ana.see("trouble").textContent(), /could not start.*refused because it is not the published file.*npm ci/s);
  assert.equal(await ana.page.evaluate(() => globalThis.pwned), undefined);
  assert.equal(await ana.page.evaluate(() => typeof globalThis.signalR), "undefined");
});

test("without any copy of SignalR the page says what to do", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  ana.allowedErrors = [/^Failed to load resource/];
  await withoutLocalLibrary(ana, null);
  await ana.openLink(server);
  await ana.page.getByRole("alert").filter({ hasText: "The chat could not start" }).waitFor();
});
