/** What the documents say of the code is true of the code: numbers, names and places agree. Needs no database. */
import { readdirSync, readFileSync, existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { runCli } from '../../src/cli/run-cli.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const SOURCES = filesUnder(['src', 'test', 'db', 'bench', 'tools'], /\.(ts|mjs)$/).filter(
  (file) => !file.startsWith('test/docs/'),
);
const DOCUMENTS = ['README.md', 'CHANGELOG.md', 'SECURITY.md', 'CONTRIBUTING.md', ...filesUnder(['docs'], /\.md$/)];

describe('docs/invariants.md', () => {
  const text = read('docs/invariants.md');
  const promises = matches(text, /^## ([A-Z]+-\d+): /gm);
  const guarantees = matches(text, /^\| ([GS]\d+) +\|/gm);

  it('defines every promise and guarantee that is cited, each once', () => {
    const defined = [...promises, ...guarantees];
    expect(defined).toEqual([...new Set(defined)]);
    const cited = citedIn(SOURCES, /\b((?:ORD|ACK|AUTH|STORE|VIEW)-\d+|G[1-6]|S(?:1[0-2]|[1-9]))\b/g);
    expect(cited.filter((id) => !defined.includes(id))).toEqual([]);
  });

  it('promises nothing that no code claims to keep', () => {
    const kept = citedIn(
      SOURCES.filter((file) => file.startsWith('src/') && !file.endsWith('.spec.ts')),
      /\b([A-Z]+-\d+)\b/g,
    );
    expect(promises.length).toBeGreaterThan(5);
    expect(promises.filter((id) => !kept.includes(id))).toEqual([]);
  });

  it('says of each promise who keeps it, what shows it, and which simpler design is wrong', () => {
    for (const section of text.split(/^## /m).filter((part) => /^[A-Z]+-\d+: /.test(part))) {
      for (const part of ['**Kept by**', '**Shown by**', '**Simpler and wrong:**']) expect(section).toContain(part);
      expect(section).toMatch(/`(src|test)\/[^`]+`|`npm run check`/);
    }
  });
});

describe('docs/decisions', () => {
  it('lists every number that comments cite', () => {
    const listed = matches(read('docs/decisions/README.md'), /^\| (D\d+[a-z]?) +\|/gm);
    expect(citedIn(SOURCES, /\b(D(?:[1-4]?\d)[a-z]?)\b/g).filter((id) => !listed.includes(id))).toEqual([]);
  });

  it('are numbered without a gap, listed, and have context, choice and consequence', () => {
    const files = filesUnder(['docs/decisions'], /\/\d{4}-[a-z0-9-]+\.md$/).sort();
    const index = read('docs/decisions/README.md');
    files.forEach((file, i) => {
      expect(path.basename(file).slice(0, 4)).toBe(String(i + 1).padStart(4, '0'));
      expect(index).toContain(`(${path.basename(file)})`);
      for (const part of ['**Context.**', '**Choice.**', '**Consequence.**']) expect(read(file)).toContain(part);
    });
    expect(files.length).toBeGreaterThanOrEqual(10);
  });
});

describe('docs/operations.md', () => {
  it('names every metric, and none that is not there', () => {
    const named = (text: string): string[] => [...new Set(matches(text, /\b(portcullis_[a-z_]+)\b/g))].sort();
    expect(named(read('docs/operations.md'))).toEqual(named(read('src/health/prometheus-metrics.ts')));
  });

  it('quotes readiness and log events as the code says them', () => {
    const code = SOURCES.filter((file) => file.startsWith('src/'))
      .map(read)
      .join('\n');
    const rows = matches(read('docs/operations.md'), /^\| (`[^|]+) \|/gm);
    const events = rows.flatMap((cell) => matches(cell, /`((?:replication|store|recorder|flow|channel)\.[a-z-]+)`/g));
    expect(events.length).toBeGreaterThan(5);
    expect(events.filter((event) => !code.includes(`'${event}'`))).toEqual([]);
    for (const text of ['shutting down', 'no heartbeat has come through the replication stream yet']) {
      expect(code).toContain(text);
      expect(read('docs/operations.md')).toContain(text);
    }
  });
});

describe('README.md', () => {
  const text = read('README.md');

  it('and the help of the command name the same commands', async () => {
    const out: string[] = [];
    await runCli(['--help'], {}, { out: (line) => out.push(line), err: () => undefined });
    const commands = matches(out.join('\n'), /^ {2}([a-z]+) {2,}/gm);
    expect(commands.length).toBeGreaterThan(5);
    expect([...new Set(matches(text, /^\| `portcullis ([a-z]+)/gm))].sort()).toEqual([...commands].sort());
  });

  it('names only scripts, variables and flags that exist', async () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const used = DOCUMENTS.flatMap((file) => matches(read(file), /(?:^|`)npm (?:run )?([a-z:]+)/gm));
    expect(used.filter((name) => !(name in scripts) && name !== 'ci')).toEqual([]);
    const settings = matches(read('.env.example'), /^# ([A-Z_]+)=/gm);
    const variables = matches(text, /`([A-Z]+_[A-Z_]+)`/g);
    expect(variables.length).toBeGreaterThan(5);
    expect(variables.filter((name) => !settings.includes(name))).toEqual([]);
  });

  it('and its tour use the ids of the demo account', () => {
    const [policyId] = matches(text, /disabled_at = now\(\) WHERE id = '([0-9a-f-]{36})'/g);
    expect(policyId).toBe('de000000-0000-4000-8000-000000000081');
    expect(read('src/db/seed-demo-account.ts')).toContain('policy(81 + i, ENGINEERS.id');
  });
});

describe('every document', () => {
  it.each(DOCUMENTS)('%s points only to what is there', (file) => {
    const text = read(file);
    const links = matches(text, /\]\((?!https?:)([^)#\s]+)[^)]*\)/g).map((link) => path.join(path.dirname(file), link));
    const named = matches(text, /`((?:src|test|db|bench|docs)\/[A-Za-z0-9_./-]+)`/g);
    expect([...links, ...named].filter((place) => !existsSync(path.join(ROOT, place)))).toEqual([]);
  });
});

function read(file: string): string {
  return readFileSync(path.join(ROOT, file), 'utf8');
}

/** Paths from the root of the repository. */
function filesUnder(folders: readonly string[], name: RegExp): string[] {
  return folders
    .filter((folder) => existsSync(path.join(ROOT, folder)))
    .flatMap((folder) =>
      readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file}`),
    )
    .filter((file) => name.test(file));
}

/** The first group of each match. */
function matches(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map((match) => match[1] ?? '');
}

function citedIn(files: readonly string[], pattern: RegExp): string[] {
  return [...new Set(files.flatMap((file) => matches(read(file), pattern)))].sort();
}
