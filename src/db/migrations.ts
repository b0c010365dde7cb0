/**
 * Every migration, by name, in order. Listed rather than read from the folder, so that a left-over file in a build is not
 * run; a test compares this list with the folder.
 */
import type { Migration } from 'kysely';
import * as accountsAndActors from '../../db/migrations/0001_accounts_and_actors.js';
import * as resourcesAndPolicies from '../../db/migrations/0002_resources_and_policies.js';
import * as devices from '../../db/migrations/0003_devices.js';
import * as tokens from '../../db/migrations/0004_tokens.js';
import * as flows from '../../db/migrations/0005_flows.js';
import * as eventStore from '../../db/migrations/0006_event_store.js';
import * as oneDevicePerPoint from '../../db/migrations/0007_one_device_per_point.js';
import * as revocations from '../../db/migrations/0008_revocations.js';
import * as changeLogSpool from '../../db/migrations/0009_change_log_spool.js';
import * as dropChangeLogSpool from '../../db/migrations/0010_drop_change_log_spool.js';
import * as slots from '../../db/migrations/0011_slots.js';

export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '0001_accounts_and_actors': accountsAndActors,
  '0002_resources_and_policies': resourcesAndPolicies,
  '0003_devices': devices,
  '0004_tokens': tokens,
  '0005_flows': flows,
  '0006_event_store': eventStore,
  '0007_one_device_per_point': oneDevicePerPoint,
  '0008_revocations': revocations,
  '0009_change_log_spool': changeLogSpool,
  '0010_drop_change_log_spool': dropChangeLogSpool,
  '0011_slots': slots,
};
