/** House rules that a machine can check (style, sections 3 to 6). Layout is Prettier's, imports are dependency-cruiser's. */
import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

const TIMERS = ['setTimeout', 'setInterval', 'setImmediate'];
const THROUGH_CLOCK = 'Time is passed in: use the Clock port (src/core/support/clock.ts).';
const THROUGH_RANDOM = 'Chance is passed in: use the Random port (src/core/support/clock.ts).';
const THROUGH_CONFIG = 'src/config is the only reader of environment variables.';

const clockProperties = [
  { object: 'Date', property: 'now', message: THROUGH_CLOCK },
  { object: 'performance', property: 'now', message: THROUGH_CLOCK },
  { object: 'Math', property: 'random', message: THROUGH_RANDOM },
  ...TIMERS.map((property) => ({ object: 'globalThis', property, message: THROUGH_CLOCK })),
];
const environmentProperties = [{ object: 'process', property: 'env', message: THROUGH_CONFIG }];

export default defineConfig(
  { ignores: ['dist', 'dist.*', 'coverage', '.portcullis'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-console': 'error',
      'no-control-regex': 'off', // control characters are looked for on purpose: in logs and in what peers send
      'no-param-reassign': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/prefer-nullish-coalescing': 'error',
      '@typescript-eslint/prefer-optional-chain': 'error',
      '@typescript-eslint/prefer-readonly': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      // A port's method returns a promise whether or not this implementation waits for something.
      '@typescript-eslint/require-await': 'off',
      // Flags the options of NestFactory.create.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
    },
  },
  {
    files: ['src/**/*.ts', 'db/**/*.ts'],
    ignores: ['src/system/**'],
    rules: {
      'no-restricted-globals': ['error', ...TIMERS.map((name) => ({ name, message: THROUGH_CLOCK }))],
      'no-restricted-imports': [
        'error',
        {
          paths: ['timers', 'timers/promises', 'node:timers', 'node:timers/promises'].map((name) => ({
            name,
            message: THROUGH_CLOCK,
          })),
        },
      ],
      'no-restricted-properties': ['error', ...clockProperties, ...environmentProperties],
      'no-restricted-syntax': [
        'error',
        { selector: 'NewExpression[callee.name="Date"][arguments.length=0]', message: THROUGH_CLOCK },
        { selector: 'CallExpression[callee.name="Date"]', message: THROUGH_CLOCK },
      ],
    },
  },
  {
    files: ['src/config/**/*.ts'],
    rules: { 'no-restricted-properties': ['error', ...clockProperties] },
  },
  {
    files: ['**/*.spec.ts', 'test/**/*.ts'],
    rules: {
      '@typescript-eslint/no-unsafe-assignment': 'off', // expect.any() and its like are typed any
      '@typescript-eslint/unbound-method': 'off', // expect(port.method).toHaveBeenCalled()
    },
  },
  {
    files: ['bench/**/*.ts', 'test/**/*.ts'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['src/**/index.ts', 'src/**/utils.ts'],
    rules: {
      'no-restricted-syntax': ['error', { selector: 'Program', message: 'Name the file after what it says.' }],
    },
  },
  {
    files: ['**/*.{js,mjs,cjs}'],
    languageOptions: {
      globals: { process: 'readonly', console: 'readonly', URL: 'readonly', fetch: 'readonly', module: 'readonly' },
    },
  },
);
