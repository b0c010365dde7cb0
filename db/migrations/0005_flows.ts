/**
 * The history of flows. Only edits are published (`<prefix>_flow_edits`: update, delete, truncate), so that a person's
 * cut is heard and our own inserts are not; REPLICA IDENTITY FULL all the same.
 *
 * No foreign key but the account's: a flow stays on record when the client, policy or resource it names is gone (D8).
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE flows (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT flows_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      client_id uuid NOT NULL,
      gateway_id uuid NOT NULL,
      resource_id uuid NOT NULL,
      policy_id uuid NOT NULL,
      membership_id uuid NOT NULL,
      token_id uuid NOT NULL,
      client_remote_ip inet,
      gateway_remote_ip inet,
      resource_shape jsonb NOT NULL
        CONSTRAINT flows_resource_shape_has_type_address_and_ip_stack
        CHECK (jsonb_typeof(resource_shape) = 'object' AND resource_shape ?& ARRAY['type', 'address', 'ip_stack']),
      created_at timestamptz NOT NULL DEFAULT now(),
      expires_at timestamptz NOT NULL,
      revoked_at timestamptz,
      revoked_reason text,
      revoked_position pg_lsn,
      delivered_at timestamptz,
      PRIMARY KEY (account_id, id)
    );
    CREATE INDEX flows_by_gateway_and_expiry ON flows (account_id, gateway_id, expires_at);
    CREATE INDEX flows_by_expiry ON flows (expires_at);
    ALTER TABLE flows REPLICA IDENTITY FULL;
  `.execute(db);
}
