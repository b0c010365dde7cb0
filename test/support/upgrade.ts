/** An HTTP upgrade by hand: what a peer is told before there is a WebSocket, and the bare connection after it. */
import { request, type IncomingHttpHeaders } from 'node:http';
import type { Duplex } from 'node:stream';
import { keyOf } from './raw-peer.js';

export interface UpgradeAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The body as problem+json; empty when it is none. */
  readonly problem: Readonly<Record<string, unknown>>;
}

export type Query = Readonly<Record<string, string>>;
/** Undefined leaves a default header out. */
export type Headers = Readonly<Record<string, string | undefined>>;

/** Everything a device must say, valid and its own. */
export function deviceQuery(token: string, externalId: string, more: Query = {}): Query {
  return { token, external_id: externalId, public_key: keyOf(externalId), ...more };
}

/** Asks for an upgrade and ends the connection, accepted or not. Rejects when the connection is cut without an answer. */
export async function askUpgrade(
  apiUrl: string,
  path: string,
  query: Query | string,
  headers: Headers = {},
): Promise<UpgradeAnswer> {
  const { answer, connection } = await upgrade(apiUrl, path, query, headers);
  connection?.destroy();
  return answer;
}

/** A connection on which the WebSocket protocol is spoken from now on, by whoever holds it. */
export async function upgradedConnection(apiUrl: string, path: string, query: Query): Promise<Duplex> {
  const { answer, connection } = await upgrade(apiUrl, path, query, {});
  if (!connection) throw new Error(`refused with ${answer.status}: ${answer.body}`);
  return connection;
}

interface Upgraded {
  readonly answer: UpgradeAnswer;
  readonly connection: Duplex | undefined;
}

function upgrade(apiUrl: string, path: string, query: Query | string, headers: Headers): Promise<Upgraded> {
  const search = typeof query === 'string' ? query : new URLSearchParams(query).toString();
  const asked = request(`${apiUrl}${path}?${search}`, { agent: false, headers: present({ ...DEFAULTS, ...headers }) });
  return new Promise((resolve, reject) => {
    asked.once('error', reject);
    asked.once('upgrade', (response, connection) => {
      connection.on('error', () => undefined);
      const { statusCode: status = 0, headers: given } = response;
      resolve({ answer: { status, headers: given, body: '', problem: {} }, connection });
    });
    asked.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => {
        const body = Buffer.concat(chunks).toString();
        const { statusCode: status = 0, headers: given } = response;
        resolve({ answer: { status, headers: given, body, problem: problemOf(given, body) }, connection: undefined });
      });
    });
    asked.end();
  });
}

const DEFAULTS: Headers = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  'user-agent': 'Ubuntu/24.4.0 connlib/1.5.3 (x86_64; 6.8.0)',
};

function present(headers: Headers): Record<string, string> {
  const entries = Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return Object.fromEntries(entries);
}

function problemOf(headers: IncomingHttpHeaders, body: string): Record<string, unknown> {
  const isProblem = headers['content-type'] === 'application/problem+json';
  return isProblem ? (JSON.parse(body) as Record<string, unknown>) : {};
}
