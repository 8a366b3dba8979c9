// Starts and ends a hubcast of one's own, for tests in which the server itself comes and goes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Log, differsOn31, within } from './helpers.mjs';

/** Why these tests do not run against another server. */
export const startsHubcast = differsOn31('the test starts and ends hubcast itself');

export class Server {
  /** The lines it wrote to stdout, and everything it wrote to stderr. */
  lines = new Log();
  stderr = '';

  /** Starts `hubcast serve` on a free port, or on `port`, and waits until it accepts. It is killed when the test ends. */
  static async start(t, { port = 0, args = [] } = {}) {
    const program = process.env.HUBCAST_BIN;
    if (!program) throw new Error('set HUBCAST_BIN to the hubcast program, for example target/debug/hubcast');
    const server = new Server();
    // Settings of the person who runs the tests must not change what is tested.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HUBCAST_')));
    server.process = spawn(program, ['serve', '--listen', `127.0.0.1:${port}`, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env });
    t.after(() => server.process.kill('SIGKILL'));
    server.exited = once(server.process, 'exit').then(([code, signal]) => ({ code, signal }));

    let rest = '';
    server.process.stdout.setEncoding('utf8').on('data', (text) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop();
      for (const line of parts) server.lines.push(line);
    });
    server.process.stderr.setEncoding('utf8').on('data', (text) => (server.stderr += text));

    const gone = server.exited.then(({ code }) => {
      throw new Error(`${program} ended with ${code} before it accepted:\n${server.stderr}`);
    });
    gone.catch(() => {}); // only of interest while waiting here
    const [first] = await Promise.race([server.lines.first(1, 'the line that says where the server listens'), gone]);
    const address = /^hubcast listening on (http:\/\/127\.0\.0\.1:(\d+))$/.exec(first);
    if (!address) throw new Error(`the first line should say where the server listens, but is: ${first}`);
    server.origin = address[1];
    server.port = Number(address[2]);
    server.hub = `${server.origin}/chatHub`;
    return server;
  }

  /** Sends a signal and resolves with how the program ended, and after how many milliseconds. */
  async end(signal, limit) {
    const asked = Date.now();
    this.process.kill(signal);
    const how = await within(this.exited, `the end of the server after ${signal}`, limit);
    return { ...how, took: Date.now() - asked };
  }
}
