// The stock clients of every version since 3.1, each with its own MessagePack.

// Version 5 was made for a Node without fetch. Where it finds one it takes it for a browser's, and that has a `self`.
globalThis.self ??= globalThis;

const both = async (client, packed) => ({ signalr: await import(client), ...(await import(packed)) });
export const allVersions = [
  ...(await Promise.all([3, 5, 6, 7, 8, 9].map((number) => both(`signalr-v${number}`, `signalr-msgpack-v${number}`)))),
  await both('@microsoft/signalr', '@microsoft/signalr-protocol-msgpack'),
];
