/**
 * The publications as they were when the slot was made, kept with the slot: it has left out what an alteration since then
 * left out, also one that was made and put right while no process of ours was there to see it (ORD-6).
 */
export interface SlotPublications {
  /** Undefined when none was kept. */
  read(): Promise<string | undefined>;
  keep(version: string): Promise<void>;
}
