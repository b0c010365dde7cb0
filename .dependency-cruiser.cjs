/**
 * Who may import whom (style, section 2; decision D49). Every rule here is proved to bite by
 * tools/check-planted-violation.mjs, which fails when a rule has no planted violation.
 */
const SPEC = '[.]spec[.]ts$';
const STAGES = 'replication|store|broadcaster|presence|db|health';
const PURE_PACKAGES = '@noble/hashes|tweetnacl|temporal-polyfill|ipaddr[.]js|semver';

/** Types may resolve to the package or to its @types: both count as the package. */
const packages = (names) => `^node_modules/(@types/)?(${names})/`;

/** A package has a home; elsewhere in src and db it is a port's business. */
const only = (name, home) => ({
  name: `${name}-has-a-home`,
  severity: 'error',
  from: { path: '^(src|db)/', pathNot: home },
  to: { path: packages(name) },
});

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'core-is-pure',
      comment: 'No Nest, pg, kysely, ws, node:* or any other package in what decides.',
      severity: 'error',
      from: { path: '^src/core/', pathNot: SPEC },
      to: { pathNot: `^src/core/|${packages(PURE_PACKAGES)}` },
    },
    {
      name: 'protocol-is-pure',
      comment: 'The wire knows the model and zod, nothing else.',
      severity: 'error',
      from: { path: '^src/protocol/', pathNot: SPEC },
      to: { pathNot: `^src/(core|protocol)/|${packages('zod')}` },
    },
    {
      name: 'stages-meet-at-ports',
      comment: 'A stage speaks to the next through an interface in core, bound in app.module.',
      severity: 'error',
      from: { path: `^src/(${STAGES})/` },
      to: { path: '^src/(?!core/|config/)', pathNot: '^src/$1/' },
    },
    {
      name: 'channels-see-ports',
      comment: 'Channels get stages, limits and secrets as ports and values; a flow needs no database round trip.',
      severity: 'error',
      from: { path: '^src/channels/', pathNot: SPEC },
      to: {
        path: '^(src|node_modules)/',
        pathNot: `^src/(core|protocol|channels)/|${packages('@nestjs/[^/]+|ws|node')}`,
      },
    },
    {
      name: 'demo-is-a-peer',
      comment: 'The tour proves something only while it sees what a real peer sees.',
      severity: 'error',
      from: { path: '^src/demo/' },
      to: { path: '^src/(?!core/|protocol/|demo/)' },
    },
    {
      name: 'leaves-serve-everyone',
      comment: 'config, system and geoip are used by all stages, so they can use none.',
      severity: 'error',
      from: { path: '^src/(config|system|geoip)/' },
      to: { path: '^src/(?!core/|config/)', pathNot: '^src/$1/' },
    },
    only('kysely', '^src/db/|^db/migrations/'),
    only('pg', '^src/(db|replication|cli)/'),
    only('prom-client', '^src/health/'),
    only('zod', '^src/(protocol|config)/'),
    only('mmdb-lib', '^src/geoip/'),
    {
      name: 'no-circular',
      comment: 'A cycle between providers fails when ES modules load, even with forwardRef.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'production-without-tests',
      severity: 'error',
      from: { path: '^(src|db)/', pathNot: SPEC },
      to: { path: `^(test|bench)/|${SPEC}` },
    },
    {
      name: 'production-without-dev-packages',
      severity: 'error',
      from: { path: '^(src|db)/', pathNot: SPEC },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'], pathNot: '^node_modules/@types/' },
    },
    {
      name: 'only-listed-packages',
      comment: 'A package that is there by accident of another one leaves with it.',
      severity: 'error',
      from: {},
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'no-orphans',
      comment: 'A file that nobody imports and that imports nothing is forgotten.',
      severity: 'error',
      from: { orphan: true, path: '^src/', pathNot: SPEC },
      to: {},
    },
  ],
  options: {
    doNotFollow: { path: '^node_modules/' },
    tsPreCompilationDeps: true, // without it type-only imports are invisible
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
