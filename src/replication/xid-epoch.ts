/**
 * The stream names transactions by 32 bits, snapshots by 64. Keeps a recent full id and picks, for each short one, the
 * full id nearest to it. Sound because a slot's catalog horizon keeps ids from drifting 2^31 apart, and because every
 * heartbeat brings a fresh full id: on a quiet publication other databases may use up 2^31 ids between two of our commits.
 * Source: PostgreSQL documentation, "Preventing Transaction ID Wraparound Failures".
 */
const EPOCH = 1n << 32n;
const HALF_EPOCH = 1n << 31n;

export class XidEpoch {
  #recent = 0n;

  /** A full id seen elsewhere, for example a snapshot's xmax. An older one changes nothing. */
  observe(fullXid: bigint): void {
    if (fullXid > this.#recent) this.#recent = fullXid;
  }

  /** Another server, or another branch of history: its ids may be lower. */
  restartAt(fullXid: bigint): void {
    this.#recent = fullXid;
  }

  widen(xid32: number): bigint {
    const candidate = this.#recent - (this.#recent % EPOCH) + BigInt(xid32);
    const full = this.#nearest(candidate);
    this.observe(full);
    return full;
  }

  #nearest(candidate: bigint): bigint {
    if (candidate > this.#recent + HALF_EPOCH && candidate >= EPOCH) return candidate - EPOCH;
    if (candidate < this.#recent - HALF_EPOCH) return candidate + EPOCH;
    return candidate;
  }
}
