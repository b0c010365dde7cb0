/** The library under test with the generated account, and the least that any engine could do. */
import { Authorizer } from '../src/core/authorizer/authorizer.js';
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
  const authorizer = authorizerOf(account);
  const subjects = new Map(
    account.actors.map((actor) => [actor, authorizer.subjectOf(actor.clientId as ClientId, NOW)]),
  );
  const prepared = questions.map(({ actor }) => subjects.get(actor));
  return ({ resourceId }, index) => {
    const subject = prepared[index];
    if (subject === undefined || typeof subject === 'string') return false;
    return authorizer.authorize(subject, resourceId as ResourceId, NOW + index).verdict === 'allow';
  };
};

export const oursByClient: MakeAsk = (account) => askByClient(account);

/** Working hours that hold during the whole bench: the answers stay, the looking is added. */
export const oursWithWindows: MakeAsk = (account) => askByClient(account, { windows: WORKING_HOURS });

const WORKING_HOURS = ['M', 'T', 'W', 'R', 'F'].map((day) => `${day}/9-12:30,12:00-17/Europe/Kyiv`);

function askByClient(account: Account, options?: RowOptions): ReturnType<MakeAsk> {
  const authorizer = authorizerOf(account, options);
  return ({ clientId, resourceId }, index) =>
    authorizer.authorize(clientId as ClientId, resourceId as ResourceId, NOW + index).verdict === 'allow';
}

/** Throws when it cannot read everything: what it leaves out would cost it nothing. */
export function authorizerOf(account: Account, options?: RowOptions): Authorizer {
  const authorizer = Authorizer.fromRows(rowsOf(account, options), connectionsOf(account));
  for (const fault of authorizer.faults()) throw new Error(`a generated row is unreadable: ${JSON.stringify(fault)}`);
  return authorizer;
}
