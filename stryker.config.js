/** What the authorizer's example tests do not notice: `npm run mutate`, on two cores about an hour. Score: bench/RESULTS.md. */
export default {
  testRunner: 'jest',
  testRunnerNodeArgs: ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'],
  jest: { projectType: 'custom', configFile: 'jest.authorizer.config.js', enableFindRelatedTests: true },
  coverageAnalysis: 'perTest',
  mutate: ['src/core/authorizer/*.ts', '!**/*.spec.ts'],
  ignorePatterns: ['dist', 'bench', 'docs', '.portcullis'],
  concurrency: 2,
  reporters: ['clear-text', 'progress-append-only'],
  tempDirName: '.stryker-tmp',
  thresholds: { high: 95, low: 85, break: 85 },
};
