/** Statements worth trying while the tour runs, with the ids of the account it runs on. */
import type { DemoOptions } from './demo-options.js';

interface Suggestion {
  readonly effect: string;
  readonly sql: string;
}

export function suggestionLines(options: DemoOptions): string[] {
  const lines = suggestions(options).flatMap(({ effect, sql }) => [`  ${effect}`, `    npx portcullis sql "${sql}"`]);
  return [
    'Open another terminal in this folder and change the database; watch this one:',
    ...lines,
    '  or all of it in psql:',
    `    ${options.psql}`,
    'Ctrl-C ends the demo. Started again it puts the demo account back as it was.',
  ];
}

function suggestions({ accountId, actorId, groupId, target }: DemoOptions): Suggestion[] {
  const inAccount = `account_id = '${accountId}'`;
  const membership = `${inAccount} AND actor_id = '${actorId}' AND group_id = '${groupId}'`;
  return [
    {
      effect: 'switch the policy off: the flow is cut',
      sql: `UPDATE policies SET disabled_at = now() WHERE id = '${target.policyId}'`,
    },
    {
      effect: 'and on again: the client asks, the flow opens',
      sql: `UPDATE policies SET disabled_at = NULL WHERE id = '${target.policyId}'`,
    },
    {
      effect: 'remove the person from the group: everything is gone',
      sql: `DELETE FROM memberships WHERE ${membership}`,
    },
    {
      effect: 'and put her back',
      sql: `INSERT INTO memberships (account_id, actor_id, group_id) VALUES ('${accountId}', '${actorId}', '${groupId}')`,
    },
    {
      effect: 'cut one flow by hand: the policy stays, so the client gets a new one',
      sql: `UPDATE flows SET revoked_at = now() WHERE ${inAccount} AND revoked_at IS NULL`,
    },
  ];
}
