// WebSockets without SignalR, from a page of the server itself and from one of another origin; one that chats with the chat page, and one that works.
// Runs like page.test.mjs, which says how.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { launchBrowser, Person, Server } from "./support.mjs";

const limits = { timeout: 90_000 };

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

/** What happens in the page: everything is said, and what came back; then a goodbye, and how it ended. */
function converse([url, said]) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    const heard = [];
    socket.onopen = () => said.forEach((text) => socket.send(text));
    socket.onmessage = ({ data }) => {
      heard.push(data);
      if (heard.length === said.length) socket.close(4321, "enough");
    };
    socket.onclose = ({ code, wasClean }) => resolve({ heard, code, wasClean });
  });
}

test("a page hears what it says", limits, async (t) => {
  const person = await Person.arrive(t, browser);
  await person.openLink(server);
  const said = ["Hello", "ü世🦀".repeat(10_000), "", "x"];
  for (const [path, greeting] of [
    ["/ws", "Server: Hello. You said: "],
    ["/echo", "Server Response: "],
    ["/echo?raw=1", ""],
  ]) {
    const ended = await person.page.evaluate(converse, [server.url.replace(/^http/, "ws") + path, said]);
    assert.deepEqual(ended, { heard: said.map((text) => greeting + text), code: 4321, wasClean: true });
  }
});

test("a page of another origin hears nothing", limits, async (t) => {
  const elsewhere = createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html><title>page</title>"));
  await new Promise((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
  t.after(() => elsewhere.close());
  const person = await Person.arrive(t, browser);
  person.allowedErrors.push(/WebSocket connection to .* failed.* 403/);
  await person.page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
  const ended = await person.page.evaluate(converse, [`${server.url.replace(/^http/, "ws")}/ws`, ["Hello"]]);
  assert.deepEqual(ended, { heard: [], code: 1006, wasClean: false });
});

test("a page without SignalR talks with the chat page", limits, async (t) => {
  const ana = await Person.arrive(t, browser);
  const ben = await Person.arrive(t, browser);
  await ben.enter(server, "raw & tea", "Ben");
  await ana.openLink(server);
  const query = new URLSearchParams({ nickname: " Ana ", room: "raw & tea" });
  await ana.page.evaluate((url) => {
    globalThis.heard = [];
    globalThis.raw = new WebSocket(url);
    globalThis.raw.onopen = () => globalThis.raw.send("Hello Ben\n<b>");
    globalThis.raw.onmessage = ({ data }) => globalThis.heard.push(data);
  }, `${server.url.replace(/^http/, "ws")}/api/chat?${query}`);
  await ben.hears("Hello Ben\n<b>");
  assert.equal(await ben.see("author").last().textContent(), "Ana");
  await ben.say("Hello Ana");
  await ana.page.waitForFunction(() => globalThis.heard.length > 0);
  assert.deepEqual(await ana.page.evaluate(() => globalThis.heard), ["Ben: Hello Ana"]);
  const code = await ana.page.evaluate(() => new Promise((resolve) => {
    globalThis.raw.onclose = ({ code }) => resolve(code);
    globalThis.raw.send(new Uint8Array([1]));
  }));
  assert.equal(code, 1003);
});

test("a page is a worker of the task centre", limits, async (t) => {
  const person = await Person.arrive(t, browser);
  await person.openLink(server);
  const heard = await person.page.evaluate(async (url) => {
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}/push?ack=done`);
    const messages = [];
    let came;
    socket.onmessage = ({ data }) => {
      messages.push(JSON.parse(data));
      came?.();
    };
    const next = async () => {
      if (messages.length === 0) await new Promise((resolve) => (came = resolve));
      return messages.shift();
    };
    await new Promise((resolve) => (socket.onopen = resolve));
    socket.send("page");
    const body = JSON.stringify({ TaskName: "ü世🦀", TaskType: 2 });
    const { id } = await (await fetch("/tasks", { method: "POST", body })).json();
    const task = await next();
    socket.send(JSON.stringify({ done: id }));
    socket.send(JSON.stringify({ done: id }));
    const objection = await next();
    const ended = new Promise((resolve) => (socket.onclose = ({ code, reason }) => resolve({ code, reason })));
    socket.send(new Uint8Array([1]));
    return { isMine: task.id === id && objection.id === id, task: task.task, error: objection.error, ended: await ended };
  }, server.url);
  assert.deepEqual(heard, {
    isMine: true,
    task: "Special-ü世🦀",
    error: "You have no task of that id.",
    ended: { code: 1003, reason: "Only texts are understood." },
  });
});
