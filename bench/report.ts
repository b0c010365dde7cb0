/** What a bench found: Markdown that is printed, and kept in RESULTS.md when asked. */
import * as fs from 'node:fs';
import type { Summary } from './statistics.js';

export interface Section {
  /** As on the command line. */
  readonly name: string;
  readonly title: string;
  readonly lines: readonly string[];
}

export function summaryTable(rows: readonly (readonly [string, Summary])[]): string[] {
  const cells = (name: string, { p50, p90, p99, max }: Summary): string =>
    `| ${name} | ${[p50, p90, p99, max].map((value) => ms(value)).join(' | ')} |`;
  return ['| ms | p50 | p90 | p99 | max |', '|---|---:|---:|---:|---:|', ...rows.map((row) => cells(...row))];
}

export function ms(value: number): string {
  return value.toFixed(value < 10 && value > -10 ? 3 : 1);
}

export function ratio(ours: number, floor: number): string {
  return `${(ours / floor).toFixed(2)}×`;
}

/** "0.310 to 0.352" */
export function range(values: readonly number[], show: (value: number) => string = ms): string {
  return `${show(Math.min(...values))} to ${show(Math.max(...values))}`;
}

/** Replaces the section of the same name, or adds it; the rest of the file stays. */
export function writeSection(file: string, { name, title, lines }: Section): void {
  const [start, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const text = [start, '', `## ${title}`, '', ...lines, '', end].join('\n');
  const old = fs.readFileSync(file, 'utf8');
  const [from, to] = [old.indexOf(start), old.indexOf(end)];
  const next = from < 0 ? `${old.trimEnd()}\n\n${text}\n` : old.slice(0, from) + text + old.slice(to + end.length);
  fs.writeFileSync(file, next);
}
