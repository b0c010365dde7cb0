import type { SlotPublications } from '../core/ports/slot-publications.js';
import type { Database } from './open-database.js';

export function slotPublications(database: Database, slot: string): SlotPublications {
  return {
    read: () =>
      database.ask('read-slot-publications', async (db) => {
        const row = await db.selectFrom('slots').where('name', '=', slot).select('publications').executeTakeFirst();
        return row?.publications;
      }),
    keep: (publications) =>
      database.ask('keep-slot-publications', async (db) => {
        await db
          .insertInto('slots')
          .values({ name: slot, publications })
          .onConflict((at) => at.column('name').doUpdateSet({ publications }))
          .execute();
      }),
  };
}
