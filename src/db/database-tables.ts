/** The tables as kysely sees them: what the queries of this folder read and write. The schema itself is in `db/migrations`. */
import type { ColumnType, Generated, GeneratedAlways } from 'kysely';
import type { PushEnd } from '../core/model/flow.js';

/** Read as Date, written as Date. Code outside this folder sees epoch milliseconds (D9). */
type Timestamp = ColumnType<Date, Date, Date>;
type NullableTimestamp = ColumnType<Date | null, Date | null | undefined, Date | null>;
type CreatedAt = ColumnType<Date, Date | undefined, never>;
/** Moved by a trigger. */
type UpdatedAt = ColumnType<Date, never, never>;
/** `pg` prints a bigint and a pg_lsn as text. */
type Text64 = string;
/** Written as JSON text, read as a value. */
type Json = ColumnType<unknown, string | undefined, string>;

interface Stamped {
  readonly created_at: CreatedAt;
  readonly updated_at: UpdatedAt;
}

interface OfAccount extends Stamped {
  readonly account_id: string;
  readonly id: Generated<string>;
}

export interface Tables {
  readonly accounts: Stamped & {
    readonly id: Generated<string>;
    readonly name: Generated<string>;
    readonly slug: Generated<string>;
    readonly config: Json;
    readonly disabled_at: NullableTimestamp;
  };
  readonly actors: OfAccount & {
    readonly type: Generated<string>;
    readonly name: Generated<string>;
    readonly disabled_at: NullableTimestamp;
  };
  readonly auth_providers: OfAccount & {
    readonly name: Generated<string>;
    readonly adapter: Generated<string>;
    readonly disabled_at: NullableTimestamp;
  };
  readonly identities: OfAccount & {
    readonly actor_id: string;
    readonly provider_id: string;
    readonly provider_identifier: string;
    readonly email: string | null;
  };
  readonly groups: OfAccount & {
    readonly name: Generated<string>;
    readonly provider_id: string | null;
    readonly provider_identifier: string | null;
  };
  readonly memberships: OfAccount & { readonly actor_id: string; readonly group_id: string };
  readonly sites: OfAccount & { readonly name: Generated<string>; readonly managed_by: Generated<string> };
  readonly gateways: OfAccount & {
    readonly site_id: string;
    readonly external_id: Generated<string>;
    readonly name: Generated<string>;
    /** Claimed by a trigger when left out. */
    readonly ipv4: Generated<string>;
    readonly ipv6: Generated<string>;
  };
  readonly clients: OfAccount & {
    readonly actor_id: string;
    readonly external_id: Generated<string>;
    readonly name: Generated<string>;
    readonly ipv4: Generated<string>;
    readonly ipv6: Generated<string>;
    readonly verified_at: NullableTimestamp;
    readonly device_serial: string | null;
    readonly device_uuid: string | null;
    readonly identifier_for_vendor: string | null;
    readonly firebase_installation_id: string | null;
  };
  readonly resources: OfAccount & {
    readonly type: Generated<string>;
    readonly name: Generated<string>;
    readonly address: string | null;
    readonly address_description: string | null;
    readonly ip_stack: string | null;
    readonly filters: Json;
  };
  readonly resource_sites: Stamped & {
    readonly account_id: string;
    readonly resource_id: string;
    readonly site_id: string;
  };
  readonly policies: OfAccount & {
    readonly group_id: string;
    readonly resource_id: string;
    readonly conditions: Json;
    readonly description: string | null;
    readonly disabled_at: NullableTimestamp;
  };
  readonly tokens: Stamped & {
    readonly id: Generated<string>;
    readonly account_id: string | null;
    readonly kind: 'client' | 'gateway' | 'relay' | 'api';
    readonly actor_id: string | null;
    readonly identity_id: string | null;
    readonly site_id: string | null;
    readonly expires_at: NullableTimestamp;
  };
  readonly token_secrets: { readonly token_id: string; readonly salt: Uint8Array; readonly digest: Uint8Array };
  readonly device_secrets: {
    readonly account_id: string;
    readonly client_id: string | null;
    readonly gateway_id: string | null;
    readonly device_id: GeneratedAlways<string>;
    readonly psk_base: Generated<Uint8Array>;
  };
  readonly client_sessions: SessionColumns & { readonly client_id: string; readonly unclean_epoch: Text64 | null };
  readonly gateway_sessions: SessionColumns & { readonly gateway_id: string; readonly previous_epoch: Text64 | null };
  readonly flows: {
    readonly account_id: string;
    readonly id: string;
    readonly client_id: string;
    readonly gateway_id: string;
    readonly resource_id: string;
    readonly policy_id: string;
    readonly membership_id: string;
    readonly token_id: string;
    readonly client_remote_ip: string | null;
    readonly gateway_remote_ip: string | null;
    readonly resource_shape: ColumnType<unknown, string, string>;
    readonly created_at: Timestamp;
    readonly expires_at: Timestamp;
    readonly revoked_at: NullableTimestamp;
    readonly revoked_reason: string | null;
    readonly revoked_position: Text64 | null;
    readonly revoked_committed_at: NullableTimestamp;
    readonly pushed_at: NullableTimestamp;
    readonly delivery: PushEnd | 'not-connected' | null;
    readonly delivered_at: NullableTimestamp;
  };
  readonly slots: {
    readonly name: string;
    readonly publications: string;
  };
  readonly timelines: {
    readonly epoch: GeneratedAlways<number>;
    readonly system_id: string;
    readonly timeline: number;
    readonly entered_at: CreatedAt;
  };
  readonly change_log: {
    readonly timeline_epoch: number;
    readonly position: Text64;
    readonly seq: number;
    readonly xid: Text64;
    readonly committed_at: Timestamp;
    readonly account_id: string | null;
    readonly table_name: string;
    readonly op: 'insert' | 'update' | 'delete' | 'truncate';
    readonly old_row: ColumnType<unknown, string | null, never>;
    readonly new_row: ColumnType<unknown, string | null, never>;
    readonly recorded_at: CreatedAt;
  };
  readonly epochs: {
    readonly id: GeneratedAlways<Text64>;
    readonly started_at: CreatedAt;
    readonly clean_at: NullableTimestamp;
  };
}

interface SessionColumns {
  readonly account_id: string;
  readonly token_id: string;
  readonly public_key: string;
  readonly remote_ip: string | null;
  readonly region: string | null;
  readonly city: string | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
  readonly version: string;
  readonly user_agent: string;
  readonly epoch: Text64;
  readonly connected_at: Timestamp;
}
