/** The life of our one durable replication slot (D10). */
import { formatPosition, parsePosition, type Position } from '../core/model/position.js';
import type { XidSnapshot } from '../core/ports/hydration-reader.js';
import { PortalError } from '../core/support/portal-error.js';
import type { Logger } from '../core/support/logger.js';
import type { ChangeSource } from './change-source.js';

/** Somebody else's slot has our name: another plugin or another database. Only a person can tell which is wrong; we ask again. */
class SlotUnusableError extends PortalError {
  readonly code = 'REPL_SLOT_UNUSABLE';
  readonly reaction = 'retry-later';
}

/** Why a slot had to be made. */
export type SlotMade = 'absent' | 'lost' | 'publication-altered' | 'unreadable' | 'backlog-abandoned';

export interface PreparedSlot {
  /** Set when it had to be made: what was committed before its position and not read by us is not in the stream. */
  readonly madeBecause: SlotMade | undefined;
  readonly confirmed: Position;
}

interface StoredSlot {
  readonly isFailover: boolean;
  readonly plugin: string;
  readonly isOurDatabase: boolean;
  readonly isLost: boolean;
  readonly confirmed: Position;
}

/**
 * States:
 * - absent: no such slot. Left by making it.
 * - ready: it holds every commit after its confirmed position. Left by the server when it keeps too much
 *   (`max_slot_wal_keep_size`), by a person who drops it, and by a publication that was away.
 * - lost: it exists and can never be read again. Left by dropping it and making a new one.
 * - held: another connection reads it. Seen before or after, not here: the caller waits. Only our own former
 *   backend may be ended, since nothing tells a second process of this installation from a stranger.
 *
 * A publication that was away or altered for a while also spoils a slot that looks ready. It is looked up as of the place
 * where a row was written: rows of that while are left out, those too whose transaction commits after the publication is right
 * again; and up to PostgreSQL 17, where it did not exist, decoding fails at that place for good. A new slot begins behind every
 * transaction that was open. So whoever knows that the publication was altered says so.
 */
export class Slot {
  #startSnapshot: XidSnapshot | undefined;
  /** PostgreSQL 17 and later copy a slot to standbys when it says so. */
  #serverHasFailover = false;

  /** @param name `[a-z0-9_]`, at most 63: what PostgreSQL allows; refused otherwise. */
  constructor(
    readonly name: string,
    private readonly log: Logger,
    /** With the new slot the gap before it cannot be seen any more: what must be known of it is written here. */
    private readonly beforeMaking: () => Promise<void>,
  ) {
    if (!/^[a-z0-9_]{1,63}$/.test(name)) throw new RangeError('a slot name has 1 to 63 of a-z, 0-9 and _');
  }

  /**
   * What was visible when the slot was made by this process; undefined when it was there already. A commit before the
   * slot's start is never streamed, yet may be invisible for a moment more: a hydration's snapshot counts only if
   * nothing of this one is missing from it (events.md B.4.2, "Slot start").
   */
  get startSnapshot(): XidSnapshot | undefined {
    return this.#startSnapshot;
  }

  /** Who reads it, and how far that is; undefined when nobody does. It may be a connection of ours that the server has not given up. */
  async heldBy(source: ChangeSource): Promise<{ readonly pid: string; readonly confirmed: Position } | undefined> {
    const [row] = await source.ask(`SELECT active_pid::text AS pid, confirmed_flush_lsn::text AS confirmed
      FROM pg_replication_slots WHERE slot_name = '${this.name}' AND active`);
    return row && { pid: row['pid'] ?? '', confirmed: parsePosition(row['confirmed'] ?? '') ?? 0n };
  }

  /** Leaves the slot ready, or throws: SlotUnusableError, or the server's error (55006: held, ask again later). */
  async prepare(source: ChangeSource, replaceBecause: SlotMade | undefined): Promise<PreparedSlot> {
    const stored = await this.#read(source);
    if (!stored) return { madeBecause: 'absent', confirmed: await this.#make(source) };
    if (stored.plugin !== 'pgoutput' || !stored.isOurDatabase) {
      throw new SlotUnusableError(`replication slot "${this.name}" belongs to another database or output plugin`);
    }
    const madeBecause = stored.isLost ? 'lost' : replaceBecause;
    if (madeBecause === undefined) {
      if (this.#serverHasFailover && !stored.isFailover) await this.#followFailovers(source);
      return { madeBecause, confirmed: stored.confirmed };
    }

    await source.dropSlot(this.name);
    const confirmed = await this.#make(source);
    const fields = { slot: this.name, why: madeBecause, from: formatPosition(stored.confirmed) };
    this.log.error('replication.slot-replaced', { ...fields, to: formatPosition(confirmed) });
    return { madeBecause, confirmed };
  }

  async #read(source: ChangeSource): Promise<StoredSlot | undefined> {
    const [version] = await source.ask(`SELECT current_setting('server_version_num') AS number`);
    this.#serverHasFailover = Number(version?.['number']) >= FIRST_WITH_FAILOVER;
    const [row] = await source.ask(`
      SELECT plugin, (database = current_database())::text AS ours, (wal_status = 'lost')::text AS lost,
        confirmed_flush_lsn::text AS confirmed, to_jsonb(s) ->> 'failover' AS failover
      FROM pg_replication_slots s WHERE slot_name = '${this.name}'`);
    if (!row) return undefined;
    return {
      isFailover: row['failover'] === 'true',
      plugin: row['plugin'] ?? '',
      isOurDatabase: row['ours'] === 'true',
      isLost: row['lost'] === 'true',
      confirmed: parsePosition(row['confirmed'] ?? '') ?? 0n,
    };
  }

  /** The slot of an older version of us or of the server. */
  async #followFailovers(source: ChangeSource): Promise<void> {
    if (await source.letSlotFollowFailovers(this.name))
      this.log.info('replication.slot-follows-failovers', { slot: this.name });
  }

  async #make(source: ChangeSource): Promise<Position> {
    await this.beforeMaking();
    const { confirmed, snapshot } = await source.makeSlot(this.name, this.#serverHasFailover);
    this.#startSnapshot = snapshot;
    this.log.info('replication.slot-made', { slot: this.name, lsn: formatPosition(confirmed) });
    return confirmed;
  }
}

/** Source: PostgreSQL documentation of 17, streaming replication protocol, CREATE_REPLICATION_SLOT. */
const FIRST_WITH_FAILOVER = 170_000;
