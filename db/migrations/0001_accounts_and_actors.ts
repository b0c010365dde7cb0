/**
 * Accounts and who is in them. Every table here is published and has REPLICA IDENTITY FULL: old rows are judged (D6).
 *
 * Rules that hold in every migration: hard deletes that cascade, `account_id` in every key so that a reference to
 * another account's row cannot be stored, a default for whatever has one, and constraint names that explain themselves.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Only a change that changes something moves updated_at, so an UPDATE to the same values stays one.
    CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      NEW.updated_at := now();
      RETURN NEW;
    END $$;

    CREATE TABLE accounts (
      id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY
        CONSTRAINT accounts_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      name text NOT NULL DEFAULT 'Unnamed account'
        CONSTRAINT accounts_name_has_3_to_64_characters CHECK (length(name) BETWEEN 3 AND 64),
      slug text NOT NULL DEFAULT 'account_' || left(md5(gen_random_uuid()::text), 12)
        CONSTRAINT accounts_slug_is_taken UNIQUE
        CONSTRAINT accounts_slug_is_3_to_100_of_a_z_0_9_underscore CHECK (slug ~ '^[a-z0-9_]{3,100}$'),
      config jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT accounts_config_is_an_object CHECK (jsonb_typeof(config) = 'object'),
      disabled_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    );

    CREATE TABLE actors (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT actors_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      type text NOT NULL DEFAULT 'account_user'
        CONSTRAINT actors_type_is_known
        CHECK (type IN ('account_user', 'account_admin_user', 'service_account', 'api_client')),
      name text NOT NULL DEFAULT 'Unnamed actor'
        CONSTRAINT actors_name_has_1_to_512_characters CHECK (length(name) BETWEEN 1 AND 512),
      disabled_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id)
    );

    CREATE TABLE auth_providers (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT auth_providers_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      name text NOT NULL DEFAULT 'Unnamed provider'
        CONSTRAINT auth_providers_name_has_1_to_255_characters CHECK (length(name) BETWEEN 1 AND 255),
      adapter text NOT NULL DEFAULT 'email'
        CONSTRAINT auth_providers_adapter_is_known CHECK (adapter IN (
          'email', 'userpass', 'openid_connect', 'google_workspace', 'microsoft_entra', 'okta', 'jumpcloud', 'mock')),
      disabled_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id)
    );

    CREATE TABLE identities (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT identities_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      actor_id uuid NOT NULL,
      provider_id uuid NOT NULL,
      provider_identifier text NOT NULL
        CONSTRAINT identities_provider_identifier_is_not_empty CHECK (provider_identifier <> ''),
      email text,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id),
      CONSTRAINT identities_are_unique_per_provider UNIQUE (account_id, provider_id, provider_identifier),
      CONSTRAINT identities_actor_is_of_the_account
        FOREIGN KEY (account_id, actor_id) REFERENCES actors ON DELETE CASCADE,
      CONSTRAINT identities_provider_is_of_the_account
        FOREIGN KEY (account_id, provider_id) REFERENCES auth_providers ON DELETE CASCADE
    );
    CREATE INDEX identities_by_actor ON identities (account_id, actor_id);

    CREATE TABLE groups (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT groups_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      name text NOT NULL DEFAULT 'Unnamed group'
        CONSTRAINT groups_name_has_1_to_255_characters CHECK (length(name) BETWEEN 1 AND 255),
      provider_id uuid,
      provider_identifier text,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id),
      CONSTRAINT groups_provider_and_its_identifier_go_together
        CHECK ((provider_id IS NULL) = (provider_identifier IS NULL)),
      CONSTRAINT groups_are_unique_per_provider UNIQUE (account_id, provider_id, provider_identifier),
      CONSTRAINT groups_provider_is_of_the_account
        FOREIGN KEY (account_id, provider_id) REFERENCES auth_providers ON DELETE CASCADE
    );

    CREATE TABLE memberships (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT memberships_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      actor_id uuid NOT NULL,
      group_id uuid NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id),
      CONSTRAINT memberships_actor_is_in_a_group_once UNIQUE (account_id, actor_id, group_id),
      CONSTRAINT memberships_actor_is_of_the_account
        FOREIGN KEY (account_id, actor_id) REFERENCES actors ON DELETE CASCADE,
      CONSTRAINT memberships_group_is_of_the_account
        FOREIGN KEY (account_id, group_id) REFERENCES groups ON DELETE CASCADE
    );
    CREATE INDEX memberships_by_group ON memberships (account_id, group_id);
  `.execute(db);

  for (const table of ['accounts', 'actors', 'auth_providers', 'identities', 'groups', 'memberships']) {
    await sql`
      ALTER TABLE ${sql.table(table)} REPLICA IDENTITY FULL;
      CREATE TRIGGER touch_updated_at BEFORE UPDATE ON ${sql.table(table)}
        FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION touch_updated_at();
    `.execute(db);
  }

  // Not published: credentials of the identity provider (D8b).
  await sql`
    CREATE TABLE provider_secrets (
      account_id uuid NOT NULL,
      provider_id uuid NOT NULL,
      secrets jsonb NOT NULL DEFAULT '{}',
      PRIMARY KEY (account_id, provider_id),
      CONSTRAINT provider_secrets_provider_is_of_the_account
        FOREIGN KEY (account_id, provider_id) REFERENCES auth_providers ON DELETE CASCADE
    );
  `.execute(db);
}
