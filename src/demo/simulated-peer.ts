/** What both simulated peers are given, and how they read what comes: they speak the public protocol and nothing else. */
import type { Clock } from '../core/support/clock.js';
import type { Scheduler } from '../core/support/scheduler.js';
import type { HeardPush } from './push-watch.js';

export interface PeerOptions {
  /** `ws://host:port` */
  readonly wsUrl: string;
  readonly token: string;
  /** Names the device: the same one each time, so that a second tour is not a second device. */
  readonly externalId: string;
  /** 44 characters of base64. */
  readonly publicKey: string;
  readonly nameOf: (resourceId: string) => string;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly heard: (push: HeardPush) => void;
  readonly note: (text: string) => void;
  /** The server said what makes a real peer stop for good: a client signs out, a gateway exits. */
  readonly ended: (why: string) => void;
}

/** A member of something received; `undefined` when there is none. */
export function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}

export function textMember(value: unknown, name: string): string {
  const text = member(value, name);
  return typeof text === 'string' ? text : '';
}

export function listMember(value: unknown, name: string): readonly unknown[] {
  const list = member(value, name);
  return Array.isArray(list) ? list : [];
}

/** The status of a refused upgrade, out of the message of ws. 4xx is final for a real peer, 5xx is tried again. */
export function refusalStatus(message: string): number | undefined {
  const match = /Unexpected server response: (\d{3})/.exec(message);
  return match ? Number(match[1]) : undefined;
}

/** @param wasConnected it had been let in before: then something changed meanwhile */
export function whyRefused(status: number, wasConnected: boolean): string {
  if (wasConnected) return `the server does not let it in any more (${status})`;
  if (status === 401) return 'the server refused its token (401). Does the demo use the database of that server?';
  return `the server refused it (${status})`;
}
