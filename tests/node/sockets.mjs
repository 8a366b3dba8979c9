// WebSockets without SignalR.

import { once } from 'node:events';
import WebSocket from 'ws';
import { Log, within } from './helpers.mjs';

/** An open WebSocket: `say` gives what comes next, `end` the code that it is closed with, and `goodbye` that and the reason. */
export async function open(t, url, options = {}) {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), options);
  t.after(() => socket.terminate());
  const heard = new Log();
  socket.on('message', (data, isBinary) => heard.push(isBinary ? data : data.toString()));
  const end = once(socket, 'close').then(([code, reason]) => ({ code, reason: reason.toString() }));
  await within(once(socket, 'open'), `${url} opens`);
  let count = 0;
  const next = async () => {
    count += 1;
    return (await heard.first(count, 'the next message')).at(-1);
  };
  const say = (message, how = {}) => {
    socket.send(message, how);
    return next();
  };
  const goodbye = () => within(end, 'the end');
  return { socket, say, next, goodbye, end: async () => (await goodbye()).code };
}
