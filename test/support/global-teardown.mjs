/** Ends what globalSetup started, and fails a whole run in which a documented message was never seen on a socket. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { tsImport } from 'tsx/esm/api';

export default async function globalTeardown(globalConfig) {
  await globalThis.portcullisTestPostgres?.stop();
  const { unseenMessages } = await tsImport('./wire-document.ts', import.meta.url);
  const unseen = unseenMessages();
  rmSync(path.dirname(process.env.PORTCULLIS_TEST_TRAFFIC), { recursive: true, force: true });
  if (isWholeRun(globalConfig) && unseen.length > 0) {
    throw new Error(`documented in docs/asyncapi.yaml and seen in no test: ${unseen.join(', ')}`);
  }
}

function isWholeRun({ testPathPatterns, testNamePattern, nonFlagArgs }) {
  const patterns = testPathPatterns?.patterns ?? testPathPatterns ?? [];
  return patterns.length === 0 && !testNamePattern && (nonFlagArgs ?? []).length === 0;
}
