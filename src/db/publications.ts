/**
 * The two publications our slot reads (D7). Reconciled by `migrate` and at every start rather than created by a numbered
 * migration, because their prefix is configuration and because a person may have altered them.
 */
import { sql } from 'kysely';
import type { Transaction } from 'kysely';
import { ACCOUNT_TABLES } from '../core/model/rows.js';
import type { Tables } from './database-tables.js';
import type { Database } from './open-database.js';

export interface PublicationNames {
  /** Every change of the account tables. */
  readonly changes: string;
  /** What happens to rows of `flows` once they are written. */
  readonly flowEdits: string;
}

/**
 * What had to be done. After any of it the slot must be made again and live accounts be read again (events.md B.3.8, B.3.11):
 * what was written before is left out, or cannot be decoded.
 */
export interface PublicationChange {
  readonly publication: string;
  readonly what: 'created' | 'table-added' | 'table-dropped' | 'row-or-column-filter-removed' | 'publish-options-set';
  readonly table?: string;
}

/** Throws when the prefix is not a plain lower-case name. */
export function publicationNames(prefix: string): PublicationNames {
  if (!/^[a-z_][a-z0-9_]{0,39}$/.test(prefix)) {
    throw new RangeError('a publication prefix has 1 to 40 of a-z, 0-9 and _, and does not begin with a digit');
  }
  return { changes: `${prefix}_changes`, flowEdits: `${prefix}_flow_edits` };
}

/** Makes both publications exactly what we read. Returns what it changed, in order; empty when nothing was. */
export function reconcilePublications(database: Database, prefix: string): Promise<readonly PublicationChange[]> {
  const wanted = wantedPublications(prefix);
  return database.inTransaction('reconcile-publications', async (db) => {
    await sql`SELECT pg_advisory_xact_lock(hashtext('portcullis reconcile-publications'))`.execute(db);
    const changes: PublicationChange[] = [];
    for (const publication of wanted) changes.push(...(await reconcile(db, publication)));
    return changes;
  });
}

/** What `reconcilePublications` would change now. Changes nothing. */
export function publicationDrift(database: Database, prefix: string): Promise<readonly PublicationChange[]> {
  return database.inTransaction('publication-drift', async (db) => {
    const drift: PublicationChange[] = [];
    for (const wanted of wantedPublications(prefix)) {
      const stored = await readPublication(db, wanted.name);
      if (!stored || stored.isForAllTables) drift.push({ publication: wanted.name, what: 'created' });
      else drift.push(...differences(wanted, stored));
    }
    return drift;
  });
}

function wantedPublications(prefix: string): readonly WantedPublication[] {
  const names = publicationNames(prefix);
  return [
    { name: names.changes, tables: ACCOUNT_TABLES, publish: ALL_ACTIONS },
    { name: names.flowEdits, tables: ['flows'], publish: EDITS },
  ];
}

const ALL_ACTIONS = ['insert', 'update', 'delete', 'truncate'] as const;
/** Not our own inserts: they carry nothing we do not know. */
const EDITS = ['update', 'delete', 'truncate'] as const;

interface WantedPublication {
  readonly name: string;
  readonly tables: readonly string[];
  readonly publish: readonly string[];
}

interface StoredPublication {
  readonly isForAllTables: boolean;
  readonly hasSchemas: boolean;
  readonly publish: readonly string[];
  readonly tables: readonly { readonly name: string; readonly isFiltered: boolean }[];
}

async function reconcile(db: Transaction<Tables>, wanted: WantedPublication): Promise<PublicationChange[]> {
  const publication = sql.id(wanted.name);
  const tables = sql.join(wanted.tables.map((table) => sql.id('public', table)));
  const publish = sql.lit(wanted.publish.join(', '));
  let stored = await readPublication(db, wanted.name);
  if (stored?.isForAllTables) {
    await sql`DROP PUBLICATION ${publication}`.execute(db);
    stored = undefined;
  }
  if (!stored) {
    await sql`CREATE PUBLICATION ${publication} FOR TABLE ${tables} WITH (publish = ${publish})`.execute(db);
    return [{ publication: wanted.name, what: 'created' }];
  }

  const changes = differences(wanted, stored);
  if (changes.some((change) => change.what !== 'publish-options-set')) {
    await sql`ALTER PUBLICATION ${publication} SET TABLE ${tables}`.execute(db);
  }
  if (changes.some((change) => change.what === 'publish-options-set')) {
    await sql`ALTER PUBLICATION ${publication} SET (publish = ${publish})`.execute(db);
  }
  return changes;
}

function differences(wanted: WantedPublication, stored: StoredPublication): PublicationChange[] {
  const publication = wanted.name;
  const has = new Set(stored.tables.map((table) => table.name));
  const wants = new Set(wanted.tables.map((table) => `public.${table}`));
  const added = [...wants].filter((table) => !has.has(table));
  const dropped = [...has].filter((table) => !wants.has(table));
  if (stored.hasSchemas) dropped.push('every table of a schema');
  const filtered = stored.tables.filter((table) => table.isFiltered && wants.has(table.name));
  const isPublishRight = [...wanted.publish].sort().join() === [...stored.publish].sort().join();
  return [
    ...added.map((table) => ({ publication, what: 'table-added' as const, table })),
    ...dropped.map((table) => ({ publication, what: 'table-dropped' as const, table })),
    ...filtered.map(({ name }) => ({ publication, what: 'row-or-column-filter-removed' as const, table: name })),
    ...(isPublishRight ? [] : [{ publication, what: 'publish-options-set' as const }]),
  ];
}

/** `undefined` when there is none of that name. */
async function readPublication(db: Transaction<Tables>, name: string): Promise<StoredPublication | undefined> {
  const { rows } = await sql<{ for_all: boolean; has_schemas: boolean; publish: string[] }>`
    SELECT puballtables AS for_all,
      EXISTS (SELECT FROM pg_publication_namespace WHERE pnpubid = pg_publication.oid) AS has_schemas,
      array_remove(ARRAY[CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END,
        CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END], NULL) AS publish
    FROM pg_publication WHERE pubname = ${name}`.execute(db);
  const [row] = rows;
  if (!row) return undefined;
  const tables = await sql<{ name: string; is_filtered: boolean }>`
    SELECT nspname || '.' || relname AS name, prqual IS NOT NULL OR prattrs IS NOT NULL AS is_filtered
    FROM pg_publication_rel JOIN pg_publication ON pg_publication.oid = prpubid
      JOIN pg_class ON pg_class.oid = prrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pubname = ${name}`.execute(db);
  return {
    isForAllTables: row.for_all,
    hasSchemas: row.has_schemas,
    publish: row.publish,
    tables: tables.rows.map((table) => ({ name: table.name, isFiltered: table.is_filtered })),
  };
}
