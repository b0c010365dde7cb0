import type { AccountId } from '../core/model/ids.js';
import type { Database } from './open-database.js';

/** Which account has this id or slug? A slug is never a UUID: it has no hyphen. `undefined` when there is none. */
export function accountNamed(database: Database, idOrSlug: string): Promise<AccountId | undefined> {
  return database.ask('account-named', async (db) => {
    const account = await db
      .selectFrom('accounts')
      .where((is) =>
        is.or([is.eb(is.cast<string>('id', 'text'), '=', idOrSlug.toLowerCase()), is('slug', '=', idOrSlug)]),
      )
      .select('id')
      .executeTakeFirst();
    return account?.id as AccountId | undefined;
  });
}
