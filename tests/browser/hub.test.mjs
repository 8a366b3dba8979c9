// The stock client in a real browser, on pages of the hub's own origin and of another one, over every transport it has.
//   TEST_HUB_URL=http://127.0.0.1:5000 npm test --prefix tests/browser
// TEST_HUB_URL is the server with the conformance hub. PEER=aspnet31 says that it is a real ASP.NET Core 3.1 with the same hub.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { launchBrowser, Person } from "./support.mjs";

const require = createRequire(import.meta.url);
const SCRIPTS = ["@microsoft/signalr/dist/browser/signalr.js", "@microsoft/signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.js"];

const old = process.env.PEER === "aspnet31";
const limits = { timeout: 90_000 };
const WAYS = [
  ["WebSockets", false],
  ["WebSockets", true],
  ["ServerSentEvents", false],
  ["LongPolling", false],
  ["LongPolling", true],
];

let browser;
let elsewhere; // a server that has nothing to do with the hub

before(async () => {
  browser = await launchBrowser();
  elsewhere = createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html><title>page</title>"));
  await new Promise((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
});

after(async () => {
  await browser?.close();
  elsewhere?.close();
});

function hubOrigin() {
  const { TEST_HUB_URL } = process.env;
  assert.ok(TEST_HUB_URL, "TEST_HUB_URL is not set: it must be the server with the conformance hub, for example http://127.0.0.1:5000");
  return new URL(TEST_HUB_URL).origin;
}

/** Somebody with the client in a page of this origin, whatever the server has there: what counts is where it is from. */
async function visitor(t, origin) {
  const person = await Person.arrive(t, browser);
  // A browser reports the 400 of a hub that is looked at, and the 404 of a poll that comes behind the end of its connection.
  person.allowedErrors.push(/responded with a status of 40[04]/);
  await person.page.goto(`${origin}/testHub`);
  for (const path of SCRIPTS) await person.page.addScriptTag({ path: require.resolve(path) });
  return person;
}

/** What happens in the page: everything once, and what came of it. */
async function useEverything([url, transport, packed, asks]) {
  const { signalR } = globalThis;
  const builder = new signalR.HubConnectionBuilder().withUrl(url, { transport: signalR.HttpTransportType[transport] }).configureLogging(signalR.LogLevel.None);
  if (packed) builder.withHubProtocol(new signalR.protocols.msgpack.MessagePackHubProtocol());
  const hub = builder.build();
  const seen = { calls: [] };
  const arrived = new Promise((resolve) => hub.on("Message", (text) => (seen.calls.push(text), resolve())));
  hub.on("Ask", (value) => `answer to ${value}`);
  const all = (stream) =>
    new Promise((resolve, reject) => {
      const items = [];
      stream.subscribe({ next: (item) => items.push(item), complete: () => resolve(items), error: reject });
    });
  const upload = (items) => {
    const subject = new signalR.Subject();
    queueMicrotask(() => {
      for (const item of items) subject.next(item);
      subject.complete();
    });
    return subject;
  };

  await hub.start();
  seen.transport = await hub.invoke("GetActiveTransportName");
  seen.ids = [hub.connectionId, await hub.invoke("GetCallerConnectionId")];
  seen.echo = await hub.invoke("Echo", "é🦀 \u2028");
  seen.big = (await hub.invoke("BigString", 300_000)).length;
  seen.failure = await hub.invoke("ThrowHubException", "shown").catch((error) => error.message);
  seen.stream = await all(hub.stream("Counter", 20, 1));
  seen.upload = await hub.invoke("PrefixedConcat", "<", upload(["a", "é"]), ">");
  seen.both = await all(hub.stream("StreamEcho", upload(["a", "b"])));
  await hub.invoke("JoinGroup", hub.connectionId);
  await hub.invoke("CallGroup", hub.connectionId, "hello");
  await arrived;
  if (asks) seen.answer = await hub.invoke("InvokeCaller", "Ask", "a question");
  const ended = new Promise((resolve) => hub.onclose((error) => resolve(error?.message ?? "without an error")));
  await hub.stop();
  seen.ended = await ended;
  return seen;
}

const origins = [
  ["its own origin", hubOrigin, false],
  // Two names of one machine are two origins, and even two sites.
  ["another origin", () => `http://localhost:${elsewhere.address().port}`, old && "that server allows no pages of other origins"],
];
for (const [whose, origin, skip] of origins) {
  describe(`a page of ${whose}`, { skip }, () => {
    for (const [transport, packed] of WAYS) {
      const options = { ...limits, skip: packed && old && "the peer has no MessagePack" };
      test(`does everything over ${transport} in ${packed ? "MessagePack" : "JSON"}`, options, async (t) => {
        const { page } = await visitor(t, origin());
        const { ids, answer, ...seen } = await page.evaluate(useEverything, [`${hubOrigin()}/testHub`, transport, packed, !old]);
        assert.match(ids[0], /^[\w-]{22}$/);
        assert.equal(ids[0], ids[1]);
        if (!old) assert.equal(answer, "answer to a question");
        assert.deepEqual(seen, {
          calls: ["hello"],
          transport,
          echo: "é🦀 \u2028",
          big: 300_000,
          failure: "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: shown",
          stream: Array.from({ length: 20 }, (_, i) => i),
          upload: "<aé>",
          both: ["echo:a", "echo:b"],
          ended: "without an error",
        });
      });
    }
  });
}

test("a page that is left ends its connection", limits, async (t) => {
  const [watcher, leaver] = [await visitor(t, hubOrigin()), await visitor(t, hubOrigin())];
  const connect = async (url) => {
    const { signalR } = globalThis;
    const hub = new signalR.HubConnectionBuilder().withUrl(url).configureLogging(signalR.LogLevel.None).build();
    globalThis.gone = [];
    hub.on("Disconnected", (id) => globalThis.gone.push(id));
    await hub.start();
    await hub.invoke("WatchDisconnects");
    return hub.connectionId;
  };
  await watcher.page.evaluate(connect, `${hubOrigin()}/testHub`);
  const id = await leaver.page.evaluate(connect, `${hubOrigin()}/testHub`);
  await leaver.page.goto("about:blank");
  await watcher.page.waitForFunction((who) => globalThis.gone.includes(who), id);
});
