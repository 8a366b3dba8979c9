// Brings in the stock SignalR client: the server's own copy, else the same version from a public CDN.
// The CDN's copy runs only when it is byte for byte the published one: the browser checks it against CDN_INTEGRITY.

const LOCAL = "/lib/signalr.min.js";
const VERSION = "10.0.11";
const CDN = `https://cdn.jsdelivr.net/npm/@microsoft/signalr@${VERSION}/dist/browser/signalr.min.js`;
const CDN_INTEGRITY = "sha384-N+pL/4qXZHZcvsa6hVMd5/7cdF3lC59ZMNHeQyRo5q9jmC7yw0hcJILPjUDSU7ZS";

/** Resolves to the library, or rejects when neither copy could be used. */
export async function loadSignalR() {
  try {
    return await runScript({ src: LOCAL });
  } catch {
    return await runScript({ src: CDN, integrity: CDN_INTEGRITY, crossOrigin: "anonymous" });
  }
}

function runScript(properties) {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), properties);
    script.onload = () => (globalThis.signalR ? resolve(globalThis.signalR) : reject(new Error(`${script.src} is not SignalR`)));
    script.onerror = () => reject(new Error(`${script.src} could not be loaded`));
    document.head.append(script);
  });
}

/** What to tell a person when loadSignalR() failed. A browser does not say why it refused a script, so neither do we. */
export const LOADING_FAILED = {
  title: "The chat could not start",
  text:
    "The SignalR library is missing: this server has no copy of it, and the one from cdn.jsdelivr.net could not be reached " +
    "or was refused because it is not the published file.",
  advice:
    "If you run this server, install the library with “npm ci” in its web folder. Otherwise check that your network allows " +
    "cdn.jsdelivr.net. Then load the page again.",
};
