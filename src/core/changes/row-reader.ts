import { parseAddress } from '../authorizer/ip-ranges.js';
import { isUuid, type AnyId } from '../model/ids.js';
import type { EpochMs } from '../model/time.js';
import type { RawRow } from './commit.js';
import { EARLIEST, parseTimestamp } from './parse-timestamp.js';
import { excerpt, UnreadableRowError, type RowFault } from './row-fault.js';

/**
 * Reads the columns of one raw row and remembers what was wrong. Ids must be there: UnreadableRowError otherwise. Any
 * other required column that is missing or does not parse makes the row absent; what is returned for it is a stand-in.
 */
export class RowReader {
  readonly faults: RowFault[] = [];
  isAbsent = false;

  constructor(
    private readonly table: string,
    private readonly raw: RawRow,
  ) {}

  id<Id extends AnyId>(column: string): Id {
    const text = this.raw[column];
    if (!isUuid(text)) throw new UnreadableRowError(this.table, column);
    return text as Id;
  }

  optionalId<Id extends AnyId>(column: string): Id | null {
    return this.raw[column] === null ? null : this.id<Id>(column);
  }

  text(column: string): string {
    const text = this.optionalText(column);
    if (text === null && this.raw[column] === null) this.reject(column, 'is null');
    return text ?? '';
  }

  /** Null is SQL NULL. A column that is not there at all makes the row absent: nobody knows what it would have said. */
  optionalText(column: string): string | null {
    const text = this.raw[column];
    if (text === undefined) this.reject(column, 'is missing');
    return text ?? null;
  }

  oneOf<const T extends string>(column: string, known: readonly [T, ...T[]]): T {
    const text = this.text(column);
    const found = known.find((value) => value === text);
    if (found === undefined) this.reject(column, `unknown value ${excerpt(text)}`);
    return found ?? known[0];
  }

  /** An inet column that holds one address. */
  address(column: string, version: 4 | 6): string {
    const text = this.text(column).replace(version === 4 ? /\/32$/ : /\/128$/, '');
    if (parseAddress(text)?.version !== version)
      this.reject(column, `${excerpt(text)} is not an IPv${version} address`);
    return text;
  }

  /** Anything but NULL means switched off, also `infinity` and what does not parse. */
  disabledAt(): EpochMs | null {
    return this.#time('disabled_at', EARLIEST);
  }

  /** NULL and `infinity` mean never; `-infinity` and what does not parse, that it is long past. */
  expiresAt(): EpochMs | null {
    return this.raw['expires_at'] === 'infinity' ? null : this.#time('expires_at', EARLIEST);
  }

  /** What does not parse was not verified. */
  verifiedAt(): EpochMs | null {
    return this.#time('verified_at', null);
  }

  /** The row counts as absent from now on. */
  reject(part: string, problem: string): void {
    this.isAbsent = true;
    this.report(part, problem);
  }

  /** A part was replaced by its safe meaning; the row itself stands. */
  report(part: string, problem: string): void {
    this.faults.push({ part, problem });
  }

  #time(column: string, whenUnreadable: EpochMs | null): EpochMs | null {
    const text = this.optionalText(column);
    if (text === null) return null;
    const time = parseTimestamp(text);
    if (time === undefined) this.report(column, `${excerpt(text)} is not a timestamp with time zone`);
    return time ?? whenUnreadable;
  }
}
