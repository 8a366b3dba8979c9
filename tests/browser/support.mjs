// What the page's tests share: the real server as a child process, and people who look at its page with a real browser.
// Nothing here sleeps; everything waits for an event and gives up at a deadline with a sentence that says what was missing.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const REPO = fileURLToPath(new URL("../..", import.meta.url));
export const WEB = `${REPO}web`;
const SCREENSHOTS = `${REPO}target/screenshots`;

const LISTEN_MS = 20_000;
const STOP_MS = 10_000;
const PAGE_MS = 15_000;

const endings = new WeakMap();

/** Like t.after, but last come, first served: people leave before their server stops. */
function atEnd(t, end) {
  const waiting = endings.get(t) ?? [];
  waiting.push(end);
  if (waiting.length > 1) return;
  endings.set(t, waiting);
  t.after(async () => {
    const failures = [];
    while (waiting.length > 0) await Promise.resolve().then(waiting.pop()).catch((failure) => failures.push(failure));
    if (failures.length > 0) throw failures[0];
  });
}

export class Server {
  #child = null;
  #wanted = false; // whether it should be running
  url = null;

  static async start() {
    const server = new Server();
    await server.startAgain();
    return server;
  }

  /** A server for one test alone. */
  static async startFor(t) {
    const server = await Server.start();
    atEnd(t, () => server.stop());
    return server;
  }

  /** Starts, and after a stop starts again on the port of the first time. */
  async startAgain() {
    const { HUBCAST_BIN } = process.env;
    assert.ok(HUBCAST_BIN, "HUBCAST_BIN is not set: it must be the path of the hubcast program, for example target/debug/hubcast");
    const program = resolve(REPO, HUBCAST_BIN);
    const listen = this.url ? new URL(this.url).host : "127.0.0.1:0";
    const child = spawn(program, ["serve", "--listen", listen, "--web", WEB], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    let log = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (log = (log + text).slice(-8000)));
    this.url = await within(
      LISTEN_MS,
      () => `${program} did not say that it listens; its log was:\n${log}`,
      new Promise((resolve, reject) => {
        child.on("error", (error) => reject(new Error(`${program} cannot be run: ${error.message}`)));
        child.on("exit", (code, signal) => reject(new Error(`${program} ended (${code ?? signal}) before it listened; its log was:\n${log}`)));
        createInterface({ input: child.stdout }).on("line", (line) => {
          const found = /^hubcast listening on (http:\/\/\S+)$/.exec(line);
          if (found) resolve(found[1]);
        });
      }),
    );
    this.#wanted = true;
    // Whatever the tests say next follows from this.
    child.on("exit", (code, signal) => {
      if (this.#wanted) console.error(`${program} ended by itself (${code ?? signal}); its log was:\n${log}`);
    });
  }

  /** SIGTERM lets it say goodbye to its connections, SIGKILL is a crash. */
  async stop(signal = "SIGTERM") {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    this.#wanted = false;
    child.kill(signal);
    try {
      await within(STOP_MS, () => `the server did not end within ${STOP_MS} ms after ${signal}`, ended);
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
  }
}

export function launchBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** Somebody with a browser of their own. When the test ends, their page must have reported no error it was not allowed. */
export class Person {
  allowedErrors = [];
  #errors = [];

  static async arrive(t, browser, options = {}) {
    const person = new Person();
    person.context = await browser.newContext({ locale: "en-GB", timezoneId: "Europe/Berlin", ...options });
    person.context.setDefaultTimeout(PAGE_MS);
    await person.context.exposeFunction("reportViolation", (text) => person.#errors.push(`content security policy: ${text}`));
    await person.context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        globalThis.reportViolation(`${event.violatedDirective} refused ${event.blockedURI} ${event.sample}`);
      });
    });
    person.page = await person.context.newPage();
    person.page.on("pageerror", (error) => person.#errors.push(String(error)));
    person.page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) person.#errors.push(`${message.text()} ${message.location().url}`);
    });
    atEnd(t, async () => {
      await person.context.close();
      const unexpected = person.#errors.filter((text) => !person.allowedErrors.some((allowed) => allowed.test(text)));
      assert.deepEqual(unexpected, [], "the page reported errors");
    });
    return person;
  }

  see(testId) {
    return this.page.getByTestId(testId);
  }

  /** The element with this test id whose whole text is `text`. */
  exactly(testId, text) {
    return this.see(testId).filter({ hasText: new RegExp(`^\\s*${escape(text)}\\s*$`) });
  }

  roomButton(room) {
    return this.page.getByRole("navigation", { name: "Rooms" }).locator(".room").filter({ hasText: room });
  }

  async openLink(server, room) {
    await this.page.goto(`${server.url}/${room === undefined ? "" : `#${new URLSearchParams({ room })}`}`);
  }

  /** Opens the room's link, says who they are if the page asks, and is in the room. */
  async enter(server, room, name) {
    await this.openLink(server, room);
    await this.see("welcome-name").fill(name);
    await this.see("welcome-button").click();
    await this.isConnected();
  }

  async joinAnother(room) {
    await this.see("join-room").fill(room);
    await this.see("join-button").click();
    await this.exactly("room-title", room).waitFor();
    await this.isConnected();
  }

  async isConnected() {
    await this.page.locator('#overall[data-state="open"]').waitFor();
  }

  /** Types and presses Enter; nothing is awaited, so that refusals can be looked at too. */
  async type(text) {
    await this.see("message-input").fill(text);
    await this.see("message-input").press("Enter");
  }

  async say(text) {
    await this.type(text);
    await this.hears(text);
  }

  async hears(text) {
    await this.exactly("text", text).last().waitFor();
  }

  async titleIs(title) {
    await this.page.waitForFunction((wanted) => document.title === wanted, title);
  }

  /** Sends past the page, as any other SignalR client could: `messages` are [user, text]. */
  async sendRaw(room, messages) {
    await this.page.evaluate(
      async ([where, all]) => {
        const hub = new globalThis.signalR.HubConnectionBuilder().withUrl("/chatHub").configureLogging(6).build();
        await hub.start();
        for (const [user, text] of all) await hub.invoke("SendMessage", where, user, text);
        await hub.stop();
      },
      [room, messages],
    );
  }

  async photograph(name) {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: `${SCREENSHOTS}/${name}.png` });
  }
}

function escape(text) {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
}

async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(what())), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
