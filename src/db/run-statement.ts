import { CompiledQuery } from 'kysely';
import type { Database } from './open-database.js';

/** Runs a statement that another stage wrote, on a connection of the pool. Values come back as the driver reads them. */
export async function runStatement(
  database: Database,
  question: string,
  text: string,
  values: readonly unknown[],
): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const { rows } = await database.ask(question, (db) =>
    db.executeQuery<Record<string, unknown>>(CompiledQuery.raw(text, [...values])),
  );
  return rows;
}
