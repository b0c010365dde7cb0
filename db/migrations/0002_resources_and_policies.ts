/** What is reached, through which sites, and who may. All published, REPLICA IDENTITY FULL. */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE sites (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT sites_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      name text NOT NULL DEFAULT 'Unnamed site'
        CONSTRAINT sites_name_has_1_to_64_characters CHECK (length(name) BETWEEN 1 AND 64),
      managed_by text NOT NULL DEFAULT 'account'
        CONSTRAINT sites_managed_by_is_account_or_system CHECK (managed_by IN ('account', 'system')),
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id)
    );

    -- The prefix length of an address or network in CIDR notation; null when the text is neither. Never raises, so that
    -- the constraint that uses it is what the person at psql is shown. (pg_input_is_valid would need PostgreSQL 16.)
    CREATE FUNCTION network_prefix_length(address text) RETURNS int LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
    BEGIN
      RETURN masklen(address::inet);
    EXCEPTION WHEN invalid_text_representation OR invalid_binary_representation THEN
      RETURN NULL;
    END $$;

    -- A dns resource has an ip stack, nothing else has one: whoever changes the type need not think of it.
    CREATE FUNCTION resources_fill_in_ip_stack() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.type = 'dns' AND NEW.ip_stack IS NULL THEN
        NEW.ip_stack := 'dual';
      ELSIF TG_OP = 'UPDATE' AND OLD.type = 'dns' AND NEW.type <> 'dns' AND NEW.ip_stack = OLD.ip_stack THEN
        NEW.ip_stack := NULL;
      END IF;
      RETURN NEW;
    END $$;

    CREATE TABLE resources (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT resources_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      type text NOT NULL DEFAULT 'dns'
        CONSTRAINT resources_type_is_known CHECK (type IN ('dns', 'cidr', 'ip', 'internet')),
      name text NOT NULL DEFAULT 'Unnamed resource'
        CONSTRAINT resources_name_has_1_to_255_characters CHECK (length(name) BETWEEN 1 AND 255),
      address text,
      address_description text
        CONSTRAINT resources_address_description_has_1_to_512_characters
        CHECK (length(address_description) BETWEEN 1 AND 512),
      ip_stack text,
      filters jsonb NOT NULL DEFAULT '[]'
        CONSTRAINT resources_filters_is_a_list CHECK (jsonb_typeof(filters) = 'array'),
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id),
      CONSTRAINT resources_address_is_null_only_for_internet CHECK ((address IS NULL) = (type = 'internet')),
      CONSTRAINT resources_cidr_has_a_network_as_address
        CHECK (type <> 'cidr' OR (network_prefix_length(address) IS NOT NULL AND position('/' IN address) > 0)),
      CONSTRAINT resources_ip_has_one_address_as_address
        CHECK (type <> 'ip' OR coalesce(network_prefix_length(address)
          = CASE WHEN position(':' IN address) > 0 THEN 128 ELSE 32 END, false)),
      CONSTRAINT resources_ip_stack_is_for_dns_dual_ipv4_only_or_ipv6_only
        CHECK (CASE WHEN type = 'dns' THEN coalesce(ip_stack IN ('dual', 'ipv4_only', 'ipv6_only'), false)
          ELSE ip_stack IS NULL END)
    );
    CREATE UNIQUE INDEX resources_one_internet_resource_per_account ON resources (account_id) WHERE type = 'internet';
    CREATE TRIGGER fill_in_ip_stack BEFORE INSERT OR UPDATE OF type, ip_stack ON resources
      FOR EACH ROW EXECUTE FUNCTION resources_fill_in_ip_stack();

    CREATE TABLE resource_sites (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      resource_id uuid NOT NULL,
      site_id uuid NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, resource_id, site_id),
      CONSTRAINT resource_sites_resource_is_of_the_account
        FOREIGN KEY (account_id, resource_id) REFERENCES resources ON DELETE CASCADE,
      CONSTRAINT resource_sites_site_is_of_the_account
        FOREIGN KEY (account_id, site_id) REFERENCES sites ON DELETE CASCADE
    );
    CREATE INDEX resource_sites_by_site ON resource_sites (account_id, site_id);

    -- What stands inside the list of conditions is judged when it is read: rubbish grants nothing (D15).
    CREATE TABLE policies (
      account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
      id uuid NOT NULL DEFAULT gen_random_uuid()
        CONSTRAINT policies_id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
      group_id uuid NOT NULL,
      resource_id uuid NOT NULL,
      conditions jsonb NOT NULL DEFAULT '[]'
        CONSTRAINT policies_conditions_is_a_list CHECK (jsonb_typeof(conditions) = 'array'),
      description text
        CONSTRAINT policies_description_has_1_to_1024_characters CHECK (length(description) BETWEEN 1 AND 1024),
      disabled_at timestamptz,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (account_id, id),
      CONSTRAINT policies_group_has_a_resource_once UNIQUE (account_id, group_id, resource_id),
      CONSTRAINT policies_group_is_of_the_account
        FOREIGN KEY (account_id, group_id) REFERENCES groups ON DELETE CASCADE,
      CONSTRAINT policies_resource_is_of_the_account
        FOREIGN KEY (account_id, resource_id) REFERENCES resources ON DELETE CASCADE
    );
    CREATE INDEX policies_by_resource ON policies (account_id, resource_id);
  `.execute(db);

  for (const table of ['sites', 'resources', 'resource_sites', 'policies']) {
    await sql`
      ALTER TABLE ${sql.table(table)} REPLICA IDENTITY FULL;
      CREATE TRIGGER touch_updated_at BEFORE UPDATE ON ${sql.table(table)}
        FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION touch_updated_at();
    `.execute(db);
  }
}
