/** The library under test with the generated account, and the least that any engine could do. */
import { AccountState } from '../src/core/authorizer/account-state.js';
import { authorize, subjectOf, type Subject } from '../src/core/authorizer/authorize.js';
import type { ClientId, ResourceId } from '../src/core/model/ids.js';
import { connectionsOf, NOW, rowsOf, type RowOptions } from './authorize-rows.js';
import type { MakeAsk } from './authorize-peers.js';
import { type Account, allowedByActor, ownStrings } from './authorize-rules.js';

/** The floor: actor → resource → answer, made beforehand. */
export const bareLookup: MakeAsk = (account) => {
  const answers = new Map(
    [...allowedByActor(account)].map(([actorId, byResource]) => [
      ownStrings(actorId),
      new Map([...byResource].map(([resourceId, answer]) => [ownStrings(resourceId), answer])),
    ]),
  );
  return ({ actorId, resourceId }) => answers.get(actorId)?.get(resourceId) === true;
};

/** The subject is at hand, as it is for whoever asks about one client many times. */
export const oursBySubject: MakeAsk = (account, questions) => {
  const state = stateOf(account);
  const subjects = new Map(account.actors.map((actor) => [actor, subject(state, actor.clientId)]));
  const prepared = questions.map(({ actor }) => subjects.get(actor));
  return ({ resourceId }, index) => {
    const asking = prepared[index];
    return asking !== undefined && authorize(state, asking, resourceId as ResourceId, NOW + index).verdict === 'allow';
  };
};

export const oursByClient: MakeAsk = (account) => askByClient(account);

/** Working hours that hold during the whole bench: the answers stay, the looking is added. */
export const oursWithWindows: MakeAsk = (account) => askByClient(account, { windows: WORKING_HOURS });

const WORKING_HOURS = ['M', 'T', 'W', 'R', 'F'].map((day) => `${day}/9-12:30,12:00-17/Europe/Kyiv`);

function askByClient(account: Account, options?: RowOptions): ReturnType<MakeAsk> {
  const state = stateOf(account, options);
  return ({ clientId, resourceId }, index) => {
    const asking = subjectOf(state, clientId as ClientId, NOW + index);
    return (
      typeof asking !== 'string' && authorize(state, asking, resourceId as ResourceId, NOW + index).verdict === 'allow'
    );
  };
}

export function stateOf(account: Account, options?: RowOptions): AccountState {
  const state = new AccountState();
  state.replaceAll(rowsOf(account, options));
  for (const facts of connectionsOf(account)) state.setConnection(facts);
  return state;
}

function subject(state: AccountState, clientId: string): Subject {
  const found = subjectOf(state, clientId as ClientId, NOW);
  if (typeof found === 'string') throw new Error(`nobody may act as ${clientId}: ${found}`);
  return found;
}
