/**
 * The second oracle: who may reach what, asked of PostgreSQL in one query over the real tables (reliability.md 2.5). It
 * was written from the same pages as `oracle-loops.ts` and shares no line with it, so that a misreading has to be made
 * twice to go unnoticed. It answers for all accounts of the database at once.
 *
 * Text that a person typed is looked at before it is cast, so the query never fails: what cannot be read grants nothing.
 * The choices that the definitions leave are the ones listed in the other oracle's files.
 *
 * One limit, of PostgreSQL: `AT TIME ZONE` knows `CET`, `EET`, `MET` and `WET` as abbreviations without summer time. Do
 * not ask it about windows in those four.
 */
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import { REGION_CODES } from '../../src/core/model/country-codes.js';
import type { AccountId, ClientId, GatewayId, PolicyId, ResourceId } from '../../src/core/model/ids.js';
import type { Access, Justified } from './oracle-loops.js';
import type { TestDatabase } from './test-database.js';

export interface SqlAnswers {
  readonly access: readonly Access[];
  readonly justified: readonly Justified[];
}

interface Row extends Record<string, unknown> {
  readonly account_id: AccountId;
  readonly client_id: ClientId;
  readonly resource_id: ResourceId;
  readonly policy_id: PolicyId;
  /** Epoch milliseconds; bigint arrives as text. */
  readonly until: string | null;
  readonly gateway_ids: readonly GatewayId[];
}

export async function askSql(
  database: TestDatabase,
  connections: readonly (ConnectionFacts & { readonly accountId: AccountId })[],
  now: number,
): Promise<SqlAnswers> {
  const facts = connections.map((of) => ({
    ...{ account_id: of.accountId, client_id: of.clientId, token_id: of.tokenId },
    ...{ region: of.region, remote_ip: of.remoteIp },
  }));
  const { rows } = await database.query<Row>(QUERY, [now, JSON.stringify(facts), [...REGION_CODES]]);
  const access: Access[] = [];
  const justified: Justified[] = [];
  for (const row of rows) {
    const until = row.until === null ? null : Number(row.until);
    const of = { accountId: row.account_id, clientId: row.client_id, resourceId: row.resource_id };
    access.push({ ...of, policyId: row.policy_id, until });
    const expiresAt = until ?? now + 14 * 86_400_000;
    for (const gatewayId of row.gateway_ids) justified.push({ ...of, gatewayId, policyId: row.policy_id, expiresAt });
  }
  return { access, justified };
}

const OCTET = String.raw`(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])`;
const IPV4 = String.raw`^${OCTET}(\.${OCTET}){3}(/([0-9]|[12][0-9]|3[0-2]))?$`;
const IPV6 = String.raw`^[0-9A-Fa-f]*:[0-9A-Fa-f:]*(${OCTET}(\.${OCTET}){3})?(/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?$`;
const TIME = String.raw`([01]?[0-9]|2[0-3])(?::([0-5]?[0-9])(?::([0-5]?[0-9])(?:\.[0-9]+)?)?)?`;
const UUID = '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
const LABEL = '(?!-)[A-Za-z0-9*?-]{1,63}(?<!-)';
const COMMON_TLDS = 'com|org|net|edu|gov|mil|biz|info|name|mobi|pro';

/**
 * $1 the moment in epoch milliseconds, $2 the latest connections as JSON, $3 the country codes.
 * An end is a number of milliseconds; `Infinity`: holds without end; null: violated.
 */
const QUERY = String.raw`
WITH
moment AS (SELECT $1::bigint AS ms, timestamptz 'epoch' + $1::bigint * interval '1 millisecond' AS at),

facts AS (
  SELECT * FROM jsonb_to_recordset($2::jsonb)
    AS f (account_id uuid, client_id uuid, token_id uuid, region text, remote_ip text)
),

-- ---- conditions as text ----
elements AS (
  SELECT p.account_id, p.id AS policy_id, e.place, e.element,
    jsonb_typeof(element) = 'object'
      AND (SELECT count(*) FROM jsonb_object_keys(CASE jsonb_typeof(element) WHEN 'object' THEN element ELSE '{}' END)) = 3
      AND jsonb_typeof(element -> 'property') = 'string' AND jsonb_typeof(element -> 'operator') = 'string'
      AND jsonb_typeof(element -> 'values') IN ('null', 'array')
      AND NOT EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof(element -> 'values') WHEN 'array' THEN element -> 'values' ELSE '[]' END) AS v
        WHERE jsonb_typeof(v) <> 'string') AS is_readable
  FROM policies p, jsonb_array_elements(p.conditions) WITH ORDINALITY AS e (element, place)
),
conditions AS (
  SELECT account_id, policy_id, place, element ->> 'property' AS property, element ->> 'operator' AS operator,
    (SELECT coalesce(array_agg(btrim(v, E' \t\n\r\f\v')), '{}')
      FROM jsonb_array_elements_text(CASE jsonb_typeof(element -> 'values') WHEN 'array' THEN element -> 'values' ELSE '[]' END) AS v
    ) AS values
  FROM elements WHERE is_readable
),

-- ---- addresses and networks ----
network_texts AS (
  SELECT DISTINCT text FROM (
    SELECT unnest(values) AS text FROM conditions WHERE property = 'remote_ip'
    UNION ALL SELECT remote_ip FROM facts
    UNION ALL SELECT address FROM resources
  ) AS t WHERE text IS NOT NULL
),
networks AS MATERIALIZED (
  SELECT text, CASE WHEN (text ~ '${IPV4}' OR text ~ '${IPV6}') AND network_prefix_length(text) IS NOT NULL
    THEN text::inet END AS network
  FROM network_texts
),
mapped AS (SELECT inet '::ffff:0:0/96' AS network),

-- ---- windows ----
window_texts AS (
  SELECT DISTINCT unnest(values) AS text FROM conditions WHERE property = 'current_utc_datetime'
),
zones AS MATERIALIZED (
  SELECT lower(name) AS zone FROM pg_timezone_names
  WHERE EXISTS (SELECT FROM window_texts) AND name NOT IN ('Factory', 'localtime', 'posixrules') AND name !~ '^posix/'
),
window_parts AS (
  SELECT text, parts[1] AS day, parts[2] AS ranges, lower(parts[3]) AS zone,
    EXISTS (SELECT FROM zones WHERE zones.zone = lower(parts[3])) AS is_readable
  FROM window_texts, regexp_match(text, '^([MTWRFSU])/([^/]*)/(.+)$') AS parts
),
pieces AS (
  SELECT text, day, zone, piece, CASE piece WHEN 'true' THEN '{0,0,0,23,59,59}' ELSE regexp_match(piece, '^${TIME}-${TIME}$') END AS clock
  FROM window_parts, regexp_split_to_table(ranges, ',') AS raw, btrim(raw, E' \t\n\r\f\v') AS piece
  WHERE piece <> ''
),
ranges AS (
  SELECT text, day, zone, piece,
    clock[1]::int * 3600 + coalesce(clock[2], '0')::int * 60 + coalesce(clock[3], '0')::int AS start_s,
    clock[4]::int * 3600 + coalesce(clock[5], '0')::int * 60 + coalesce(clock[6], '0')::int AS end_s
  FROM pieces
),
readable_windows AS (
  SELECT text FROM window_parts AS w WHERE is_readable
    AND NOT EXISTS (SELECT FROM ranges AS r WHERE r.text = w.text AND (r.start_s <= r.end_s) IS NOT TRUE)
),
condition_ranges AS (
  SELECT c.account_id, c.policy_id, c.place, r.day, r.zone, r.start_s, r.end_s,
    max(r.end_s) OVER (PARTITION BY c.account_id, c.policy_id, c.place, r.day, r.zone
      ORDER BY r.start_s, r.end_s ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
  FROM conditions AS c JOIN ranges AS r ON r.text = ANY (c.values)
  WHERE c.property = 'current_utc_datetime'
    AND NOT EXISTS (SELECT FROM unnest(c.values) AS v WHERE v NOT IN (SELECT text FROM readable_windows))
),
islands AS (
  SELECT account_id, policy_id, place, day, zone, min(start_s) AS start_s, max(end_s) AS end_s
  FROM (
    SELECT *, count(*) FILTER (WHERE reached IS NULL OR reached < start_s) OVER (
      PARTITION BY account_id, policy_id, place, day, zone ORDER BY start_s, end_s) AS island
    FROM condition_ranges
  ) AS numbered
  GROUP BY account_id, policy_id, place, day, zone, island
),
open_islands AS (
  SELECT i.account_id, i.policy_id, i.place, i.zone, clock.wanted, clock.wanted AT TIME ZONE i.zone AS ends_at
  FROM islands AS i, moment,
    LATERAL (SELECT moment.at AT TIME ZONE i.zone AS shown) AS wall,
    LATERAL (SELECT date_trunc('day', shown) + i.end_s * interval '1 second' AS wanted) AS clock
  WHERE substr('MTWRFSU', extract(isodow FROM shown)::int, 1) = i.day
    AND shown BETWEEN date_trunc('day', shown) + i.start_s * interval '1 second' AND wanted
),
window_ends AS (
  SELECT account_id, policy_id, place, max(
    -- A clock that never shows the wanted time jumps over it: the window ends at the jump.
    CASE WHEN ends_at AT TIME ZONE zone = wanted THEN ends_at
      ELSE (SELECT min(minute)
        FROM generate_series(date_trunc('minute', moment.at), moment.at + interval '26 hours', interval '1 minute') AS minute
        WHERE minute AT TIME ZONE zone > wanted)
    END) AS ends_at
  FROM open_islands, moment
  GROUP BY account_id, policy_id, place
),

-- ---- who asks ----
token_ends AS (
  SELECT id, CASE
      WHEN expires_at IS NULL OR expires_at = 'infinity' THEN 'Infinity'::numeric
      WHEN expires_at = '-infinity' THEN -8640000000000000
      ELSE greatest(-8640000000000000, least(8640000000000000, floor(extract(epoch FROM expires_at) * 1000)))
    END AS ends_at
  FROM tokens
),
askers AS (
  SELECT c.account_id, c.id AS client_id, c.actor_id, c.verified_at IS NOT NULL AS is_verified, p.id::text AS provider_id,
    CASE WHEN f.region = ANY ($3::text[]) THEN f.region END AS region,
    CASE WHEN position('/' IN f.remote_ip) = 0 THEN n.network END AS address, e.ends_at AS token_ends_at
  FROM clients AS c
    JOIN facts AS f ON f.account_id = c.account_id AND f.client_id = c.id
    JOIN accounts AS a ON a.id = c.account_id AND a.disabled_at IS NULL
    JOIN actors AS o ON o.account_id = c.account_id AND o.id = c.actor_id AND o.disabled_at IS NULL
    JOIN tokens AS t ON t.account_id = c.account_id AND t.id = f.token_id AND t.kind = 'client' AND t.actor_id = c.actor_id
    JOIN token_ends AS e ON e.id = t.id
    LEFT JOIN identities AS i ON i.account_id = c.account_id AND i.id = t.identity_id AND i.actor_id = c.actor_id
    LEFT JOIN auth_providers AS p ON p.account_id = c.account_id AND p.id = i.provider_id AND p.disabled_at IS NULL
    LEFT JOIN networks AS n ON n.text = f.remote_ip,
    moment
  WHERE e.ends_at > moment.ms AND (t.identity_id IS NULL OR p.id IS NOT NULL)
),

-- ---- one condition for one client ----
condition_ends AS (
  SELECT c.account_id, c.policy_id, k.client_id, CASE
      WHEN property = 'remote_ip_location_region' AND operator IN ('is_in', 'is_not_in') THEN
        CASE WHEN k.region IS NOT NULL AND values <@ $3::text[] AND (k.region = ANY (values)) = (operator = 'is_in')
          THEN 'Infinity'::numeric END
      WHEN property = 'remote_ip' AND operator IN ('is_in_cidr', 'is_not_in_cidr') THEN
        CASE WHEN k.address IS NOT NULL
            AND NOT EXISTS (SELECT FROM unnest(values) AS v JOIN networks AS n ON n.text = v, mapped
              WHERE n.network IS NULL OR n.network <<= mapped.network)
            AND EXISTS (SELECT FROM unnest(values) AS v JOIN networks AS n ON n.text = v
              WHERE k.address <<= network(n.network) OR (operator = 'is_not_in_cidr' AND inside <<= network(n.network)))
              = (operator = 'is_in_cidr')
          THEN 'Infinity'::numeric END
      WHEN property = 'provider_id' AND operator IN ('is_in', 'is_not_in') THEN
        CASE WHEN NOT EXISTS (SELECT FROM unnest(values) AS v WHERE v !~* '${UUID}')
            AND EXISTS (SELECT FROM unnest(values) AS v WHERE lower(v) = k.provider_id) = (operator = 'is_in')
          THEN 'Infinity'::numeric END
      WHEN property = 'client_verified' AND operator = 'is' THEN
        CASE WHEN values IN ('{}', '{false}') OR (values = '{true}' AND k.is_verified) THEN 'Infinity'::numeric END
      WHEN property = 'current_utc_datetime' AND operator = 'is_in_day_of_week_time_ranges' THEN
        floor(extract(epoch FROM w.ends_at) * 1000)
    END AS ends_at
  FROM conditions AS c JOIN askers AS k ON k.account_id = c.account_id
    LEFT JOIN window_ends AS w
      ON w.account_id = c.account_id AND w.policy_id = c.policy_id AND w.place = c.place,
    -- The IPv4 address that an IPv4-mapped one spells.
    LATERAL (SELECT CASE WHEN k.address <<= (SELECT network FROM mapped)
      THEN inet '0.0.0.0' + (k.address - inet '::ffff:0:0') END AS inside) AS spelled
),

-- ---- what is reached ----
dns_labels AS (
  SELECT account_id, id, string_to_array(address, '.') AS labels FROM resources WHERE type = 'dns'
),
readable_resources AS (
  SELECT r.account_id, r.id
  FROM resources AS r LEFT JOIN networks AS n ON n.text = r.address
    LEFT JOIN dns_labels AS d ON d.account_id = r.account_id AND d.id = r.id
  WHERE NOT EXISTS (
      SELECT FROM jsonb_array_elements(r.filters) AS f
      WHERE r.type = 'internet' OR jsonb_typeof(f) <> 'object' OR (f - 'protocol' - 'ports') <> '{}'
        OR (f -> 'protocol' IN ('"tcp"', '"udp"', '"icmp"')) IS NOT TRUE
        OR f -> 'protocol' <> '"icmp"' AND f ? 'ports' AND (
          jsonb_typeof(f -> 'ports') <> 'array' OR EXISTS (
            SELECT FROM jsonb_array_elements(CASE jsonb_typeof(f -> 'ports') WHEN 'array' THEN f -> 'ports' ELSE '[]' END) AS port,
              LATERAL (SELECT CASE jsonb_typeof(port) WHEN 'string'
                THEN regexp_match(btrim(port #>> '{}'), '^([0-9]{1,5})(?: *- *([0-9]{1,5}))?$') END AS m) AS matched
            WHERE (m[1]::int <= coalesce(m[2], m[1])::int AND coalesce(m[2], m[1])::int <= 65535) IS NOT TRUE)))
    AND CASE r.type
      WHEN 'internet' THEN true
      WHEN 'dns' THEN length(r.address) BETWEEN 1 AND 253
        AND r.address !~ '^[0-9]+(\.[0-9]+){3}$'
        AND NOT EXISTS (SELECT FROM unnest(labels) AS label WHERE label !~ '^${LABEL}$' OR label ~ '.\*\*|\*\*.')
        AND lower(labels[cardinality(labels)]) !~ '[*?]|^localhost$'
        AND NOT (
          (lower(labels[cardinality(labels)]) ~ '^(${COMMON_TLDS}|ac|eu|su|uk)$'
            OR upper(labels[cardinality(labels)]) = ANY ($3::text[]) AND lower(labels[cardinality(labels)]) <> 'xk')
          AND NOT EXISTS (SELECT FROM unnest(trim_array(labels, 1)) AS label WHERE label !~ '^[*?]+$'))
      ELSE n.network IS NOT NULL AND NOT EXISTS (
        SELECT FROM unnest('{0.0.0.0/32, 127.0.0.0/8, ::/128, ::1/128, 100.64.0.0/10, fd00:2021:1111::/48, ::ffff:0:0/96}'::inet[])
          AS forbidden WHERE forbidden && network(n.network))
    END
),

-- ---- policies ----
policy_ends AS (
  SELECT k.account_id, k.client_id, k.token_ends_at, p.resource_id, p.id AS policy_id,
    coalesce(c.earliest, 'Infinity') AS ends_at
  FROM askers AS k
    JOIN memberships AS m ON m.account_id = k.account_id AND m.actor_id = k.actor_id
    JOIN policies AS p ON p.account_id = k.account_id AND p.group_id = m.group_id AND p.disabled_at IS NULL,
    LATERAL (
      SELECT min(e.ends_at) AS earliest, count(*) FILTER (WHERE e.ends_at IS NULL) AS violated FROM condition_ends AS e
      WHERE e.account_id = p.account_id AND e.policy_id = p.id AND e.client_id = k.client_id
    ) AS c
  WHERE c.violated = 0 AND NOT EXISTS (
    SELECT FROM elements AS e
    WHERE e.account_id = p.account_id AND e.policy_id = p.id AND e.is_readable IS NOT TRUE)
),
longest AS (
  SELECT DISTINCT ON (account_id, client_id, resource_id) *
  FROM policy_ends ORDER BY account_id, client_id, resource_id, ends_at DESC, policy_id
)

SELECT l.account_id, l.client_id, l.resource_id, l.policy_id,
  nullif(least(l.ends_at, l.token_ends_at), 'Infinity')::bigint AS until,
  ARRAY(
    SELECT g.id::text FROM gateways AS g JOIN resource_sites AS s
      ON s.account_id = g.account_id AND s.site_id = g.site_id
    WHERE g.account_id = l.account_id AND s.resource_id = l.resource_id
  ) AS gateway_ids
FROM longest AS l JOIN readable_resources AS r ON r.account_id = l.account_id AND r.id = l.resource_id
WHERE EXISTS (
  SELECT FROM resource_sites AS s JOIN sites AS t ON t.account_id = s.account_id AND t.id = s.site_id
  WHERE s.account_id = l.account_id AND s.resource_id = l.resource_id)
`;
