// What lets somebody into a connection is written nowhere that somebody else might read.

import assert from 'node:assert/strict';
import test from 'node:test';
import { HttpTransportType } from '@microsoft/signalr';
import { ChatClient } from './helpers.mjs';
import { RS, RawHub, request, upgrade } from './raw.mjs';
import { Server, startsHubcast } from './server.mjs';

test('neither connection tokens nor access tokens are logged, in good times or bad', { skip: startsHubcast }, async (t) => {
  const server = await Server.start(t);
  const hub = server.hub;
  const access = 'secret-access-token';
  const negotiated = JSON.parse((await request('POST', `/negotiate?negotiateVersion=1&access_token=${access}`, { hub })).body);
  const id = encodeURIComponent(negotiated.connectionToken);

  // The token while it is good, while it is in use, and when it is no good any more.
  const raw = await RawHub.open(t, { url: hub, query: `?id=${id}&access_token=${access}` });
  await upgrade(`?id=${id}&access_token=${access}`, { Authorization: `Bearer ${access}` }, { hub });
  await request('POST', `?id=${id}`, { hub, body: access });
  raw.send(`not a message, but ${access}${RS}`);
  await raw.connectionError();
  await request('GET', `?id=${id}&access_token=${access}`, { hub });
  await request('DELETE', `?id=${id}`, { hub });
  await request('GET', `/nowhere/${id}`, { hub });

  const http = { accessTokenFactory: () => access, transport: HttpTransportType.WebSockets };
  const client = await ChatClient.start(t, { url: hub, http });
  await assert.rejects(client.invoke(`Unknown${access}`));
  await server.end('SIGTERM');

  const written = server.lines.items.join('\n') + server.stderr;
  assert.ok(!written.includes(negotiated.connectionToken), `the connection token is in the log:\n${written}`);
  assert.ok(!written.includes(`access_token=${access}`), `the access token is in the log:\n${written}`);
  assert.ok(!written.includes(`Bearer ${access}`), `the authorization header is in the log:\n${written}`);
});
