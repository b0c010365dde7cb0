/** Every branch of the authorizer is taken by its example tests, those with random histories left aside (`npm run check`). */
import config from './jest.config.js';

const [pure] = config.projects;

export default {
  ...config,
  projects: [
    {
      ...pure,
      testMatch: ['<rootDir>/src/core/authorizer/*.spec.ts'],
      testPathIgnorePatterns: ['[.]prop[.]spec[.]ts$'],
    },
  ],
  collectCoverage: true,
  collectCoverageFrom: ['<rootDir>/src/core/authorizer/*.ts', '!**/*.spec.ts'],
  coverageReporters: [['text', { skipFull: true }]],
  coverageThreshold: { global: { branches: 100, functions: 100, lines: 100, statements: 100 } },
};
