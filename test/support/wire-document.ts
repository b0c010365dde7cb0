/**
 * `docs/asyncapi.yaml` as a peer's author would use it: every frame a test peer receives is held against it, and what was
 * seen is noted, so that a whole run can say which documented message nobody ever sent.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { isIPv4, isIPv6 } from 'node:net';
import { Ajv, type ValidateFunction } from 'ajv';
import { parse } from 'yaml';
import type { PeerRole } from './strict-peer.js';

type Direction = 'fromPeer' | 'toPeer';
type Document = Readonly<Record<string, unknown>> & {
  readonly channels: Readonly<
    Record<string, { readonly messages: Readonly<Record<string, { readonly payload: object }>> }>
  >;
};

const FILE = new URL('../../docs/asyncapi.yaml', import.meta.url);

export const wireDocument = parse(readFileSync(FILE, 'utf8')) as Document;

const ajv = new Ajv({ strict: false, allErrors: true, formats: { ipv4: isIPv4, ipv6: isIPv6 } });
ajv.addSchema({ $id: 'asyncapi', ...wireDocument });

const compiled = new Map<string, ValidateFunction | undefined>();

/** Of the whole frame, in V1. `undefined`: the document knows no such message. */
export function frameValidator(role: PeerRole, event: string, direction: Direction): ValidateFunction | undefined {
  const name = direction === 'fromPeer' ? `${event}.request` : event;
  const key = `${role}.${name}`;
  if (!compiled.has(key)) compiled.set(key, compile(role, name));
  return compiled.get(key);
}

/** Throws when the document does not describe the frame; notes it as seen otherwise. */
export function checkAgainstDocument(role: PeerRole, frame: { readonly event: string }): void {
  const validate = frameValidator(role, frame.event, 'toPeer');
  if (!validate) throw new Error(`docs/asyncapi.yaml has no ${frame.event} to a ${role}`);
  if (!validate(frame)) {
    throw new Error(`not what docs/asyncapi.yaml says: ${ajv.errorsText(validate.errors)} in ${JSON.stringify(frame)}`);
  }
  note(`${role} toPeer ${frame.event}`);
}

/** Notes what a peer sent, when the document describes it. */
export function noteSent(role: PeerRole, frame: { readonly event: string }): void {
  if (frameValidator(role, frame.event, 'fromPeer')?.(frame)) note(`${role} fromPeer ${frame.event}`);
}

/** Documented messages of which the notes have none. */
export function unseenMessages(): string[] {
  const file = process.env['PORTCULLIS_TEST_TRAFFIC'] ?? '';
  const seen = new Set(existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []);
  const documented = Object.entries(wireDocument.channels).flatMap(([role, { messages }]) =>
    Object.keys(messages).map((name) => {
      const event = name.replace(/\.request$/, '');
      return `${role} ${event === name ? 'toPeer' : 'fromPeer'} ${event}`;
    }),
  );
  return documented.filter((message) => !seen.has(message));
}

const noted = new Set<string>();

function note(message: string): void {
  const file = process.env['PORTCULLIS_TEST_TRAFFIC'];
  if (file === undefined || noted.has(message)) return;
  noted.add(message);
  appendFileSync(file, `${message}\n`);
}

function compile(role: PeerRole, name: string): ValidateFunction | undefined {
  const pointer = `/channels/${role}/messages/${name}/payload`;
  if (!wireDocument.channels[role]?.messages[name]) return undefined;
  return ajv.compile({ $ref: `asyncapi#${pointer}` });
}
