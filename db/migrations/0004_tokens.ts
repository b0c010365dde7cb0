/** Tokens (published, REPLICA IDENTITY FULL) and, apart from them and never published, what proves them (D8b, D27). */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE tokens (
      id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY
        CONSTRAINT tokens_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      account_id uuid REFERENCES accounts ON DELETE CASCADE,
      kind text NOT NULL CONSTRAINT tokens_kind_is_known CHECK (kind IN ('client', 'gateway', 'relay', 'api')),
      actor_id uuid,
      identity_id uuid,
      site_id uuid,
      expires_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT tokens_only_relay_tokens_have_no_account CHECK (account_id IS NOT NULL OR kind = 'relay'),
      CONSTRAINT tokens_client_and_api_tokens_have_an_actor_and_no_others
        CHECK ((actor_id IS NOT NULL) = (kind IN ('client', 'api'))),
      CONSTRAINT tokens_identity_is_for_client_and_api_tokens CHECK (identity_id IS NULL OR actor_id IS NOT NULL),
      CONSTRAINT tokens_gateway_tokens_have_a_site_and_no_others
        CHECK ((site_id IS NOT NULL) = (kind = 'gateway')),
      CONSTRAINT tokens_actor_is_of_the_account
        FOREIGN KEY (account_id, actor_id) REFERENCES actors ON DELETE CASCADE,
      CONSTRAINT tokens_identity_is_of_the_account
        FOREIGN KEY (account_id, identity_id) REFERENCES identities ON DELETE CASCADE,
      CONSTRAINT tokens_site_is_of_the_account
        FOREIGN KEY (account_id, site_id) REFERENCES sites ON DELETE CASCADE
    );
    CREATE INDEX tokens_by_actor ON tokens (account_id, actor_id);
    CREATE INDEX tokens_by_identity ON tokens (account_id, identity_id);
    CREATE INDEX tokens_by_site ON tokens (account_id, site_id);

    ALTER TABLE tokens REPLICA IDENTITY FULL;
    CREATE TRIGGER touch_updated_at BEFORE UPDATE ON tokens
      FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION touch_updated_at();

    CREATE TABLE token_secrets (
      token_id uuid PRIMARY KEY REFERENCES tokens ON DELETE CASCADE,
      salt bytea NOT NULL CONSTRAINT token_secrets_salt_has_16_bytes CHECK (length(salt) = 16),
      digest bytea NOT NULL CONSTRAINT token_secrets_digest_has_32_bytes CHECK (length(digest) = 32)
    );
  `.execute(db);
}
