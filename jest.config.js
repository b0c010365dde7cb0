/**
 * Two projects: `pure` needs nothing and takes seconds, `pg` gets a PostgreSQL from its globalSetup.
 * Started through `npm test`, which passes the flag that ESM under jest needs.
 */
import vm from 'node:vm';

if (vm.SourceTextModule === undefined) {
  throw new Error('jest needs node --experimental-vm-modules here: without it suites run as CommonJS. Use `npm test`.');
}

/** Kept here, not in .swcrc: jest wants ES modules for its own loader and class names that survive. */
const swcOptions = {
  swcrc: false,
  jsc: {
    target: 'es2023',
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    keepClassNames: true,
  },
  module: { type: 'es6' },
  sourceMaps: 'inline',
};

const common = {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  moduleFileExtensions: ['ts', 'js', 'mjs', 'cjs', 'json', 'node'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  transform: { '^.+\\.ts$': ['@swc/jest', swcOptions] },
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/\\.portcullis'],
};

export default {
  maxWorkers: 2,
  testTimeout: 30_000, // meant for pg; jest 30 ignores it inside a project
  projects: [
    { ...common, displayName: 'pure', testMatch: ['<rootDir>/src/**/*.spec.ts'] },
    {
      ...common,
      displayName: 'pg',
      testMatch: ['<rootDir>/test/**/*.spec.ts'],
      globalSetup: '<rootDir>/test/support/global-setup.mjs',
      globalTeardown: '<rootDir>/test/support/global-teardown.mjs',
    },
  ],
};
