/** Who a client is for decisions: its rows, the facts of its latest connection, and whether anybody may act as it (D17). */
import type { ConnectionFacts } from '../model/connection-facts.js';
import type { ClientId, GroupId, MembershipId } from '../model/ids.js';
import type { AccountRow, AccountTable, AccountTables, ClientRow, TokenRow } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';
import { conditionInput, type ConditionInput } from './conditions.js';

/** Who asks: a client with the facts of its latest connection. Valid for one state; make it again after a change. */
export interface Subject {
  readonly client: ClientRow;
  readonly token: TokenRow;
  readonly input: ConditionInput;
  /** The actor's groups, with the membership that puts it there. */
  readonly groups: ReadonlyMap<GroupId, MembershipId>;
}

/** Why nobody may act as this client at all; each one denies everything. */
export type SubjectProblem =
  | 'account-gone'
  | 'account-disabled'
  | 'client-gone'
  | 'never-connected'
  | 'actor-gone'
  | 'actor-disabled'
  | 'token-gone'
  | 'token-expired'
  | 'identity-gone'
  | 'provider-disabled';

/** What a subject is made of, without the time: good until one of its rows or the connection changes. */
export interface Identified {
  readonly outcome: Subject | SubjectProblem;
  /** From here on it is `token-expired`, whatever the outcome says; null: never. */
  readonly tokenEnd: EpochMs | null;
}

/** The part of an account's state that says who somebody is. */
export interface IdentitySource {
  readonly account: AccountRow | undefined;
  row<T extends AccountTable>(table: T, key: string): AccountTables[T] | undefined;
  connection(clientId: ClientId): ConnectionFacts | undefined;
  groupsOfActor(actorId: ClientRow['actorId']): ReadonlyMap<GroupId, MembershipId>;
}

export function identify(source: IdentitySource, clientId: ClientId): Identified {
  const { account } = source;
  if (!account) return problem('account-gone');
  if (account.disabledAt !== null) return problem('account-disabled');
  const client = source.row('clients', clientId);
  if (!client) return problem('client-gone');
  const actor = source.row('actors', client.actorId);
  if (!actor) return problem('actor-gone');
  if (actor.disabledAt !== null) return problem('actor-disabled');
  const facts = source.connection(clientId);
  if (!facts) return problem('never-connected');
  const token = source.row('tokens', facts.tokenId);
  if (token?.kind !== 'client' || token.actorId !== client.actorId) return problem('token-gone');
  const tokenEnd = token.expiresAt;
  const identity = token.identityId === null ? null : source.row('identities', token.identityId);
  if (identity === undefined || (identity !== null && identity.actorId !== client.actorId))
    return problem('identity-gone', tokenEnd);
  if (identity !== null && source.row('auth_providers', identity.providerId)?.disabledAt !== null)
    return problem('provider-disabled', tokenEnd);
  const input = conditionInput(facts, identity?.providerId ?? null, client.verifiedAt);
  return { outcome: { client, token, input, groups: source.groupsOfActor(client.actorId) }, tokenEnd };
}

function problem(outcome: SubjectProblem, tokenEnd: EpochMs | null = null): Identified {
  return { outcome, tokenEnd };
}
