import { Client } from 'pg';
import type { CustomTypesConfig, QueryArrayResult } from 'pg';
import { DatabaseError } from 'pg';
import { printResult } from '../print-result.js';
import { UsageError } from '../command.js';
import type { Command, Terminal } from '../command.js';
import { readFlags } from '../read-flags.js';
import { withDatabaseUrl } from '../with-database.js';

export const sql: Command = {
  help: `usage: portcullis sql "<statement>; <statement> …"

Runs SQL and prints what it returns. Several statements in one string are one transaction. A statement that begins with
a dash comes after --. Full psql works as well: its address is in the server's ready line.`,
  async run({ args, config, ...terminal }) {
    const { positionals } = readFlags(args, {}, true);
    const [statement, ...more] = positionals;
    if (statement === undefined || more.length > 0) throw new UsageError('give one string of SQL, in quotes');
    return withDatabaseUrl(config(), (url) => run(url, statement, terminal));
  },
};

async function run(url: string, statement: string, { out, err }: Terminal): Promise<0 | 1> {
  const client = new Client({ connectionString: url, application_name: 'portcullis sql' });
  client.on('notice', (notice) => err(`${notice.severity ?? 'NOTICE'}:  ${notice.message ?? ''}`));
  await client.connect();
  try {
    const query = { text: statement, rowMode: 'array' as const, types: AS_PRINTED };
    // Several statements give several results, which the type does not say.
    const answer = (await client.query(query)) as unknown as OneResult | OneResult[];
    for (const result of Array.isArray(answer) ? answer : [answer]) {
      const text = printResult(result);
      if (text !== '') out(text);
    }
    return 0;
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    err(printError(error));
    return 1;
  } finally {
    await client.end();
  }
}

type OneResult = QueryArrayResult<(string | null)[]>;

const AS_PRINTED = { getTypeParser: () => (value: string) => value } as unknown as CustomTypesConfig;

function printError(error: DatabaseError): string {
  const lines = [`${error.severity ?? 'ERROR'}:  ${error.message}`];
  if (error.detail !== undefined) lines.push(`DETAIL:  ${error.detail}`);
  if (error.hint !== undefined) lines.push(`HINT:  ${error.hint}`);
  return lines.join('\n');
}
