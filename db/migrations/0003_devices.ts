/**
 * Clients and gateways (published, REPLICA IDENTITY FULL) and what is kept beside them, unpublished: their latest
 * connect, their secret, and the tunnel addresses of the account.
 *
 * Addresses are `inet`, not text: PostgreSQL's output of a single host carries no prefix (`100.64.0.1`), in the stream as
 * in a query that does not cast, and `max` and `+ 1` work.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE gateways (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT gateways_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      site_id uuid NOT NULL,
      external_id text NOT NULL DEFAULT gen_random_uuid()::text
        CONSTRAINT gateways_external_id_is_not_empty CHECK (external_id <> ''),
      name text NOT NULL DEFAULT 'gateway-' || left(md5(gen_random_uuid()::text), 5)
        CONSTRAINT gateways_name_has_1_to_255_characters CHECK (length(name) BETWEEN 1 AND 255),
      ipv4 inet NOT NULL CONSTRAINT gateways_ipv4_is_one_address CHECK (family(ipv4) = 4 AND masklen(ipv4) = 32),
      ipv6 inet NOT NULL CONSTRAINT gateways_ipv6_is_one_address CHECK (family(ipv6) = 6 AND masklen(ipv6) = 128),
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id),
      CONSTRAINT gateways_are_unique_per_site UNIQUE (account_id, site_id, external_id),
      CONSTRAINT gateways_site_is_of_the_account
        FOREIGN KEY (account_id, site_id) REFERENCES sites ON DELETE CASCADE
    );

    CREATE TABLE clients (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT clients_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      actor_id uuid NOT NULL,
      external_id text NOT NULL DEFAULT gen_random_uuid()::text
        CONSTRAINT clients_external_id_is_not_empty CHECK (external_id <> ''),
      name text NOT NULL DEFAULT 'client-' || left(md5(gen_random_uuid()::text), 5)
        CONSTRAINT clients_name_has_1_to_255_characters CHECK (length(name) BETWEEN 1 AND 255),
      ipv4 inet NOT NULL CONSTRAINT clients_ipv4_is_one_address CHECK (family(ipv4) = 4 AND masklen(ipv4) = 32),
      ipv6 inet NOT NULL CONSTRAINT clients_ipv6_is_one_address CHECK (family(ipv6) = 6 AND masklen(ipv6) = 128),
      verified_at timestamptz,
      device_serial text,
      device_uuid text,
      identifier_for_vendor text,
      firebase_installation_id text,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id),
      CONSTRAINT clients_are_unique_per_actor UNIQUE (account_id, actor_id, external_id),
      CONSTRAINT clients_actor_is_of_the_account
        FOREIGN KEY (account_id, actor_id) REFERENCES actors ON DELETE CASCADE
    );

    -- Who has which address. Clients and gateways of an account share both ranges; a row leaves with its device.
    -- The device is checked at commit, because its address is claimed just before its row is stored.
    CREATE TABLE addresses (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      address inet NOT NULL,
      client_id uuid,
      gateway_id uuid,
      PRIMARY KEY (account_id, address),
      CONSTRAINT addresses_belong_to_one_device CHECK (num_nonnulls(client_id, gateway_id) = 1),
      CONSTRAINT addresses_client_is_of_the_account FOREIGN KEY (account_id, client_id)
        REFERENCES clients ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
      CONSTRAINT addresses_gateway_is_of_the_account FOREIGN KEY (account_id, gateway_id)
        REFERENCES gateways ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
    );
    CREATE INDEX addresses_by_client ON addresses (account_id, client_id);
    CREATE INDEX addresses_by_gateway ON addresses (account_id, gateway_id);

    -- The highest address of the account plus one; once the range is used up to its end, its first gap.
    CREATE FUNCTION next_device_address(of_account uuid, of_family int) RETURNS inet LANGUAGE plpgsql AS $$
    DECLARE
      first_address inet := CASE of_family WHEN 4 THEN '100.64.0.1' ELSE 'fd00:2021:1111::1' END;
      last_address inet := CASE of_family WHEN 4 THEN '100.95.255.254' ELSE 'fd00:2021:1111::1f:fffe' END;
      found_address inet;
    BEGIN
      SELECT address INTO found_address FROM addresses
        WHERE account_id = of_account AND address BETWEEN first_address AND last_address
        ORDER BY address DESC LIMIT 1;
      IF found_address IS NULL THEN
        RETURN first_address;
      ELSIF found_address < last_address THEN
        RETURN found_address + 1;
      END IF;

      IF NOT EXISTS (SELECT FROM addresses WHERE account_id = of_account AND address = first_address) THEN
        RETURN first_address;
      END IF;
      SELECT used.address + 1 INTO found_address FROM addresses AS used
        WHERE used.account_id = of_account AND used.address >= first_address AND used.address < last_address
          AND NOT EXISTS (SELECT FROM addresses AS other
            WHERE other.account_id = of_account AND other.address = used.address + 1)
        ORDER BY used.address LIMIT 1;
      IF found_address IS NULL THEN
        RAISE EXCEPTION 'the address pool of account % is exhausted', of_account USING ERRCODE = '53400';
      END IF;
      RETURN found_address;
    END $$;

    -- Two connects that race for an address meet at the primary key: the second waits for the first, then looks again.
    CREATE FUNCTION claim_device_address(of_account uuid, of_family int, of_client uuid, of_gateway uuid)
    RETURNS inet LANGUAGE plpgsql AS $$
    DECLARE
      candidate inet;
    BEGIN
      LOOP
        candidate := next_device_address(of_account, of_family);
        INSERT INTO addresses (account_id, address, client_id, gateway_id)
          VALUES (of_account, candidate, of_client, of_gateway) ON CONFLICT DO NOTHING;
        IF FOUND THEN
          RETURN candidate;
        END IF;
      END LOOP;
    END $$;

    -- Gives a new device its addresses, and keeps the table of addresses true when one is chosen or changed by hand.
    -- IPv4 always before IPv6, so that two devices cannot wait for each other.
    CREATE FUNCTION devices_claim_addresses() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      client uuid := CASE TG_TABLE_NAME WHEN 'clients' THEN NEW.id END;
      gateway uuid := CASE TG_TABLE_NAME WHEN 'gateways' THEN NEW.id END;
    BEGIN
      IF NEW.ipv4 IS NULL THEN
        NEW.ipv4 := claim_device_address(NEW.account_id, 4, client, gateway);
      ELSIF TG_OP = 'INSERT' OR NEW.ipv4 IS DISTINCT FROM OLD.ipv4 THEN
        INSERT INTO addresses VALUES (NEW.account_id, NEW.ipv4, client, gateway);
      END IF;
      IF NEW.ipv6 IS NULL THEN
        NEW.ipv6 := claim_device_address(NEW.account_id, 6, client, gateway);
      ELSIF TG_OP = 'INSERT' OR NEW.ipv6 IS DISTINCT FROM OLD.ipv6 THEN
        INSERT INTO addresses VALUES (NEW.account_id, NEW.ipv6, client, gateway);
      END IF;
      IF TG_OP = 'UPDATE' THEN
        DELETE FROM addresses WHERE account_id = OLD.account_id AND address IN (OLD.ipv4, OLD.ipv6)
          AND address NOT IN (NEW.ipv4, NEW.ipv6);
      END IF;
      RETURN NEW;
    END $$;
  `.execute(db);

  for (const table of ['gateways', 'clients']) {
    await sql`
      ALTER TABLE ${sql.table(table)} REPLICA IDENTITY FULL;
      CREATE TRIGGER claim_addresses BEFORE INSERT OR UPDATE OF ipv4, ipv6 ON ${sql.table(table)}
        FOR EACH ROW EXECUTE FUNCTION devices_claim_addresses();
      CREATE TRIGGER touch_updated_at BEFORE UPDATE ON ${sql.table(table)}
        FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION touch_updated_at();
    `.execute(db);
  }

  await sql`
    -- 32 secret bytes per device row, the base of preshared keys. Made at the first connect, never published (D8b).
    CREATE TABLE device_secrets (
      account_id uuid NOT NULL,
      client_id uuid,
      gateway_id uuid,
      device_id uuid NOT NULL GENERATED ALWAYS AS (coalesce(client_id, gateway_id)) STORED,
      psk_base bytea NOT NULL DEFAULT
          sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
        CONSTRAINT device_secrets_psk_base_has_32_bytes CHECK (length(psk_base) = 32),
      PRIMARY KEY (account_id, device_id),
      CONSTRAINT device_secrets_belong_to_one_device CHECK (num_nonnulls(client_id, gateway_id) = 1),
      CONSTRAINT device_secrets_client_is_of_the_account
        FOREIGN KEY (account_id, client_id) REFERENCES clients ON DELETE CASCADE,
      CONSTRAINT device_secrets_gateway_is_of_the_account
        FOREIGN KEY (account_id, gateway_id) REFERENCES gateways ON DELETE CASCADE
    );

    -- A device's latest connect: what changes at every connect stays out of the published rows (D6). The token is no
    -- foreign key: a session outlives it, and its flows are then unjustified. epoch is that of the process it
    -- connected to; unclean_epoch the last one that ended without a clean stop (D22).
    CREATE TABLE client_sessions (
      account_id uuid NOT NULL,
      client_id uuid NOT NULL,
      token_id uuid NOT NULL,
      public_key text NOT NULL,
      remote_ip inet,
      region text,
      city text,
      latitude float8,
      longitude float8,
      version text NOT NULL,
      user_agent text NOT NULL,
      epoch bigint NOT NULL,
      unclean_epoch bigint,
      connected_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, client_id),
      CONSTRAINT client_sessions_public_key_is_taken UNIQUE (account_id, public_key),
      CONSTRAINT client_sessions_client_is_of_the_account
        FOREIGN KEY (account_id, client_id) REFERENCES clients ON DELETE CASCADE
    );
    CREATE INDEX client_sessions_by_unclean_epoch ON client_sessions (account_id, unclean_epoch)
      WHERE unclean_epoch IS NOT NULL;

    -- The same of a gateway. previous_epoch is that of the process it was connected to before this one.
    CREATE TABLE gateway_sessions (
      account_id uuid NOT NULL,
      gateway_id uuid NOT NULL,
      token_id uuid NOT NULL,
      public_key text NOT NULL,
      remote_ip inet,
      region text,
      city text,
      latitude float8,
      longitude float8,
      version text NOT NULL,
      user_agent text NOT NULL,
      epoch bigint NOT NULL,
      previous_epoch bigint,
      connected_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, gateway_id),
      CONSTRAINT gateway_sessions_public_key_is_taken UNIQUE (account_id, public_key),
      CONSTRAINT gateway_sessions_gateway_is_of_the_account
        FOREIGN KEY (account_id, gateway_id) REFERENCES gateways ON DELETE CASCADE
    );
  `.execute(db);
}
