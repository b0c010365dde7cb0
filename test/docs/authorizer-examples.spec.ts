/** The examples of docs/authorizer.md are run as they stand there, and each value in a comment is what the line gives. */
import fs from 'node:fs';
import vm from 'node:vm';
import { expect, it } from '@jest/globals';
import * as library from '../../src/core/authorizer/authorizer.js';

const PAGE = fs.readFileSync(new URL('../../docs/authorizer.md', import.meta.url), 'utf8');

it('the examples of docs/authorizer.md give what they say', () => {
  const source = blocksOf('js')
    .join('\n')
    .replace(/^import .*$/m, '');
  const seen = run(claimsRecorded(source));
  expect(seen.length).toBeGreaterThan(8);
  for (const { claim, given, wanted } of seen) expect({ claim, value: given }).toEqual({ claim, value: wanted });
});

it('the text of an explanation is the one shown', () => {
  const [text] = blocksOf('text');
  const source = blocksOf('js')
    .slice(0, 2)
    .join('\n')
    .replace(/^import .*$/m, '');
  const shown = run(`${source}\nclaim('', printExplanation(authorizer.explain(laptop, wiki, monday)), '');`)[0]?.given;
  expect(shown).toBe(text?.trimEnd());
});

interface Seen {
  readonly claim: string;
  readonly given: unknown;
  readonly wanted: unknown;
}

function blocksOf(language: string): string[] {
  return [...PAGE.matchAll(new RegExp('```' + language + '\\n([^]*?)```', 'g'))].map((match) => match[1] ?? '');
}

/** `expression; // value`, on one line or with the value on the next, becomes a recorded claim. */
function claimsRecorded(source: string): string {
  return source
    .replace(/;\n\/\/ (\{.*\})$/gm, '; // $1')
    .replace(/^(?!const|let|import)(\S.*); \/\/ (.*)$/gm, (_line, expression: string, value: string) => {
      return `claim(${JSON.stringify(expression)}, ${expression}, ${value});`;
    });
}

function run(source: string): Seen[] {
  const seen: Seen[] = [];
  const claim = (text: string, given: unknown, wanted: unknown): void => void seen.push({ claim: text, given, wanted });
  const { Authorizer, printExplanation } = library;
  const page = vm.compileFunction(source, ['Authorizer', 'printExplanation', 'claim']) as (...given: unknown[]) => void;
  page(Authorizer, printExplanation, claim);
  return seen;
}
