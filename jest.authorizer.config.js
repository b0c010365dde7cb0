/**
 * The authorizer by its example tests alone, those with random histories left aside: they must take every branch
 * (`npm run check:coverage`) and notice what is changed in it (`npm run mutate`).
 */
import config from './jest.config.js';

const [pure] = config.projects;

export default {
  ...pure,
  testMatch: ['<rootDir>/src/core/authorizer/*.spec.ts'],
  testPathIgnorePatterns: ['[.]prop[.]spec[.]ts$'],
  collectCoverageFrom: ['<rootDir>/src/core/authorizer/*.ts', '!**/*.spec.ts'],
  coverageReporters: [['text', { skipFull: true }]],
  coverageThreshold: { global: { branches: 100, functions: 100, lines: 100, statements: 100 } },
};
