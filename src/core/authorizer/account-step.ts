/** One step of an account's state in the making: what each key is to become, while nothing has changed yet. */
import { keyOf, parseRow, rowKey } from '../changes/parse-row.js';
import type { RawRow, RowChange } from '../changes/commit.js';
import type { AccountTable, AccountTables } from '../model/rows.js';
import { byTable, type Layers, type StateFault } from './account-layers.js';

type WantedMaps = { readonly [T in AccountTable]: Map<string, AccountTables[T] | undefined> };

/** Collects without changing anything: a step that throws leaves no trace. */
export class AccountStep {
  readonly faults = new Map<string, readonly StateFault[]>();
  readonly #wanted = byTable(() => new Map<string, never>()) as WantedMaps;

  constructor(private readonly known: Pick<Layers, 'tables' | 'faults'>) {}

  touched<T extends AccountTable>(table: T): Iterable<[string, AccountTables[T] | undefined]> {
    return this.#wanted[table];
  }

  clear(table: AccountTable): void {
    const wanted = this.#wanted[table];
    for (const key of wanted.keys()) this.#remove(table, key);
    for (const key of this.known.tables[table].keys()) this.#remove(table, key);
    for (const fault of [...this.known.faults.values()].flat())
      if (fault.table === table) this.#remove(table, fault.key);
  }

  change(table: AccountTable, change: RowChange): void {
    const oldKey = change.old && rowKey(table, change.old);
    const newKey = change.new && rowKey(table, change.new);
    if (oldKey !== null && oldKey !== newKey) this.#remove(table, oldKey);
    if (change.new) this.set(table, change.new);
  }

  set(table: AccountTable, raw: RawRow): void {
    const { row, faults } = parseRow(table, raw);
    const key = row ? keyOf(table, row) : rowKey(table, raw);
    this.put(
      table,
      key,
      row ?? undefined,
      faults.map((fault) => ({ ...fault, table, key })),
    );
  }

  put(
    table: AccountTable,
    key: string,
    row: AccountTables[AccountTable] | undefined,
    faults: readonly StateFault[],
  ): void {
    this.faults.set(`${table}/${key}`, faults);
    (this.#wanted[table] as Map<string, typeof row>).set(key, row);
  }

  #remove(table: AccountTable, key: string): void {
    this.put(table, key, undefined, []);
  }
}
