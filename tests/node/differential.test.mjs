// The same is done to this server and to a real ASP.NET Core 3.1 with the same hub, and both must answer the same.
//
// What the real one answers is recorded in aspnet31.json, so that it need not be there. Where it is (`PEER_HUB_URL`, its origin), it is
// asked again: the recording must still be true; `RECORD=1` writes it anew.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { transcriptOf } from './differential.mjs';
import { scenarios } from './differential-scenarios.mjs';
import { testHub } from './testhub.mjs';

const RECORDING = new URL('aspnet31.json', import.meta.url);
const peer = process.env.PEER_HUB_URL;

if (peer && process.env.RECORD) {
  const recorded = {};
  for (const scenario of scenarios) {
    const transcript = await transcriptOf(scenario, peer);
    const failed = transcript.find((note) => note?.failed);
    if (failed) throw new Error(`${scenario.name}: ${failed.failed}`);
    recorded[scenario.name] = transcript;
  }
  const lines = Object.entries(recorded).map(([name, transcript]) => `${JSON.stringify(name)}: ${JSON.stringify(transcript)}`);
  writeFileSync(RECORDING, `{\n${lines.join(',\n')}\n}\n`);
}

const recorded = JSON.parse(readFileSync(RECORDING, 'utf8'));
const here = new URL(testHub()).origin;

test('the recording has these scenarios and no others', () => {
  assert.deepEqual(Object.keys(recorded).sort(), scenarios.map(({ name }) => name).sort());
});

const skip = peer ? false : 'no ASP.NET Core is here to be asked (PEER_HUB_URL); its recording stands in for it';
test('the recording is what ASP.NET Core answers', { skip }, async (t) => {
  for (const scenario of scenarios) {
    await t.test(scenario.name, async () => assert.deepEqual(await transcriptOf(scenario, peer), recorded[scenario.name]));
  }
});

describe('this server answers as ASP.NET Core does', () => {
  for (const scenario of scenarios) {
    if (!scenario.why) test(scenario.name, async () => assert.deepEqual(await transcriptOf(scenario, here), recorded[scenario.name]));
  }
});

describe('this server answers otherwise, knowingly', { skip: here === peer && 'this server is the peer' }, () => {
  for (const scenario of scenarios) {
    if (!scenario.why) continue;
    test(`${scenario.name}: ${scenario.why}`, async () => {
      assert.deepEqual(await transcriptOf(scenario, here), scenario.here);
      assert.notDeepEqual(scenario.here, recorded[scenario.name], 'there is no difference any more');
    });
  }
});
