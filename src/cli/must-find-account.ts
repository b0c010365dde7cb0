import type { AccountId } from '../core/model/ids.js';
import { accountNamed } from '../db/account-named.js';
import type { Database } from '../db/open-database.js';

/** The account that `--account` names; null without the flag. */
export async function mustFindAccount(database: Database, idOrSlug: string | undefined): Promise<AccountId | null> {
  if (idOrSlug === undefined) return null;
  const account = await accountNamed(database, idOrSlug);
  if (account === undefined) throw new Error(`there is no account "${idOrSlug}"`);
  return account;
}
