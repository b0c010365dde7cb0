/**
 * The oracle: who may reach what, told by plain loops over plain rows (reliability.md 2.5; D17 where it says more).
 * Written from the definitions alone. It shares nothing with the authorizer but the row types, on purpose: no index, no
 * cache, no helper. Windows are understood in UTC only, and `remote_ip` only as single IPv4 hosts: that is what the
 * histories that are checked against it contain.
 */
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { PolicyId } from '../../src/core/model/ids.js';
import type { AccountTable, AccountTables, ConditionSource } from '../../src/core/model/rows.js';

export type NaiveDb = { readonly [Table in AccountTable]: AccountTables[Table][] } & {
  readonly connections: ConnectionFacts[];
};

/** Why a pair may flow, and until when. */
export interface Justification {
  readonly policyId: PolicyId;
  readonly expiresAt: number;
}

const FOURTEEN_DAYS_MS = 14 * 24 * 60 * 60 * 1000;

/** Every justified `gateway|client|resource` at `now`, with the policy that lasts longest and the flow's end. */
export function justifyAll(db: NaiveDb, now: number): Map<string, Justification> {
  const justified = new Map<string, Justification>();
  for (const gateway of db.gateways) {
    for (const client of db.clients) {
      for (const resource of db.resources) {
        let served = false;
        for (const link of db.resource_sites) {
          if (link.resourceId === resource.id && link.siteId === gateway.siteId && siteIs(db, link)) served = true;
        }
        const why = served ? bestPolicy(db, client.id, resource.id, now) : undefined;
        if (why !== undefined) justified.set(`${gateway.id}|${client.id}|${resource.id}`, why);
      }
    }
  }
  return justified;
}

/** What each client may see at `now`, as `client|resource`: authorized, and in one site at least. */
export function shownAll(db: NaiveDb, now: number): Set<string> {
  const shown = new Set<string>();
  for (const client of db.clients) {
    for (const link of db.resource_sites) {
      const isShown = siteIs(db, link) && bestPolicy(db, client.id, link.resourceId, now) !== undefined;
      if (isShown) shown.add(`${client.id}|${link.resourceId}`);
    }
  }
  return shown;
}

function siteIs(db: NaiveDb, link: { readonly siteId: string }): boolean {
  return db.sites.some((site) => site.id === link.siteId);
}

/** A token speaks only for clients of its actor, an identity only for its own: anything else is doubt (S9). */
function bestPolicy(db: NaiveDb, clientId: string, resourceId: string, now: number): Justification | undefined {
  const client = db.clients.find((row) => row.id === clientId);
  const facts = db.connections.find((row) => row.clientId === clientId);
  if (client === undefined || facts === undefined) return undefined;
  if (!db.resources.some((row) => row.id === resourceId)) return undefined;
  if (!db.accounts.some((row) => row.id === client.accountId && row.disabledAt === null)) return undefined;
  if (!db.actors.some((row) => row.id === client.actorId && row.disabledAt === null)) return undefined;

  const token = db.tokens.find((row) => row.id === facts.tokenId);
  if (token?.kind !== 'client' || token.actorId !== client.actorId) return undefined;
  const tokenEnd = token.expiresAt ?? Infinity;
  if (tokenEnd <= now) return undefined;

  let providerId: string | null = null;
  if (token.identityId !== null) {
    const identity = db.identities.find((row) => row.id === token.identityId);
    if (identity?.actorId !== client.actorId) return undefined;
    if (!db.auth_providers.some((row) => row.id === identity.providerId && row.disabledAt === null)) return undefined;
    providerId = identity.providerId;
  }

  let best: { policyId: PolicyId; end: number } | undefined;
  for (const policy of db.policies) {
    if (policy.resourceId !== resourceId || policy.disabledAt !== null || policy.conditions === 'unreadable') continue;
    const isMember = db.memberships.some((row) => row.actorId === client.actorId && row.groupId === policy.groupId);
    if (!isMember) continue;
    let end = Infinity;
    for (const condition of policy.conditions) {
      end = Math.min(end, holdsUntil(condition, facts, client.verifiedAt, providerId, now));
    }
    if (end === -Infinity) continue;
    if (best === undefined || end > best.end || (end === best.end && policy.id < best.policyId)) {
      best = { policyId: policy.id, end };
    }
  }
  if (best === undefined) return undefined;
  const expiresAt = Math.min(best.end, tokenEnd);
  return { policyId: best.policyId, expiresAt: expiresAt === Infinity ? now + FOURTEEN_DAYS_MS : expiresAt };
}

/** Infinity: holds with no end of its own. -Infinity: violated; also everything this model does not know (S9). */
function holdsUntil(
  condition: ConditionSource,
  facts: ConnectionFacts,
  verifiedAt: number | null,
  providerId: string | null,
  now: number,
): number {
  const yes = (holds: boolean): number => (holds ? Infinity : -Infinity);
  const { values } = condition;
  switch (`${condition.property} ${condition.operator}`) {
    case 'remote_ip_location_region is_in':
      return yes(facts.region !== null && values.includes(facts.region));
    case 'remote_ip_location_region is_not_in':
      return yes(facts.region !== null && !values.includes(facts.region));
    case 'remote_ip is_in_cidr':
      return yes(facts.remoteIp !== null && values.includes(facts.remoteIp));
    case 'remote_ip is_not_in_cidr':
      return yes(facts.remoteIp !== null && !values.includes(facts.remoteIp));
    case 'provider_id is_in':
      return yes(providerId !== null && values.includes(providerId));
    case 'provider_id is_not_in':
      return yes(providerId === null || !values.includes(providerId));
    case 'client_verified is':
      return yes(values[0] !== 'true' || verifiedAt !== null);
    case 'current_utc_datetime is_in_day_of_week_time_ranges':
      return windowEnd(values, now);
    default:
      return -Infinity;
  }
}

/** `D/H:MM-H:MM/UTC` values; the end of the window `now` is in, prolonged by windows of that day that touch it. */
function windowEnd(values: readonly string[], now: number): number {
  const midnight = Math.floor(now / 86_400_000) * 86_400_000;
  const today = 'UMTWRFS'.charAt(new Date(now).getUTCDay());
  const windows: { start: number; end: number }[] = [];
  for (const value of values) {
    const parts = /^([UMTWRFS])\/(\d+):(\d\d)-(\d+):(\d\d)\/UTC$/.exec(value);
    if (parts === null) return -Infinity;
    if (parts[1] !== today) continue;
    const start = midnight + (Number(parts[2]) * 60 + Number(parts[3])) * 60_000;
    windows.push({ start, end: midnight + (Number(parts[4]) * 60 + Number(parts[5])) * 60_000 });
  }
  let end = -Infinity;
  for (const window of windows) if (window.start <= now && now <= window.end) end = Math.max(end, window.end);
  for (let more = end !== -Infinity; more;) {
    more = false;
    for (const window of windows) {
      if (window.start <= end && window.end > end) {
        end = window.end;
        more = true;
      }
    }
  }
  return end;
}
