/** One statement's result, laid out as psql does: a table and a row count, or the command's tag. */

export interface StatementResult {
  readonly command: string | null;
  readonly rowCount: number | null;
  readonly fields: readonly { readonly name: string }[];
  readonly rows: readonly (readonly (string | null)[])[];
}

/** Empty for an empty statement. */
export function printResult(result: StatementResult): string {
  if (result.fields.length > 0) {
    const tag = result.command === 'SELECT' ? [] : [tagOf(result)];
    return [...table(result), ...tag].join('\n');
  }
  return tagOf(result);
}

function table({ fields, rows }: StatementResult): string[] {
  const cells = [fields.map((field) => field.name), ...rows.map((row) => row.map((value) => oneLine(value ?? '')))];
  const widths = fields.map((_, column) => Math.max(...cells.map((row) => [...(row[column] ?? '')].length)));
  const line = (row: readonly string[]): string =>
    ` ${row.map((cell, i) => cell + ' '.repeat((widths[i] ?? 0) - [...cell].length)).join(' | ')}`.trimEnd();
  const [header = [], ...body] = cells;
  const rule = widths.map((width) => '-'.repeat(width + 2)).join('+');
  return [line(header), rule, ...body.map(line), rows.length === 1 ? '(1 row)' : `(${rows.length} rows)`];
}

/** A value with line breaks would break the table; a control character could do worse to a terminal. */
function oneLine(value: string): string {
  return value.replace(/[\u0000-\u001f\u007f-\u009f]/g, (char) => (char === '\n' ? '↵' : char === '\t' ? ' ' : '·'));
}

/** PostgreSQL's tag of an INSERT has an oid, which has been 0 since version 12. */
function tagOf({ command, rowCount }: StatementResult): string {
  if (command === null || command === '') return '';
  if (command === 'INSERT') return `INSERT 0 ${rowCount ?? 0}`;
  return COUNTED.has(command) ? `${command} ${rowCount ?? 0}` : command;
}

const COUNTED = new Set(['UPDATE', 'DELETE', 'MERGE', 'SELECT', 'MOVE', 'FETCH', 'COPY']);
