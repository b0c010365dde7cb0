/** One statement that drops a replication slot, however often its reader comes back to it meanwhile. */
export function dropSlotInUse(slot: string): string {
  return `DO $$ BEGIN
    WHILE EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '${slot}') LOOP
      PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '${slot}' AND active;
      BEGIN
        PERFORM pg_drop_replication_slot('${slot}');
      EXCEPTION WHEN object_in_use THEN
        PERFORM pg_sleep(0.005);
      END;
    END LOOP;
  END $$`;
}
