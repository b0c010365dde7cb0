/** The END LSN of a commit: the only LSN ever compared, acknowledged, logged or asked for (decisions D3, D11). */
export type Position = bigint;

/** Prints a position as PostgreSQL prints a pg_lsn, for example `16/B374D848`. */
export function formatPosition(position: Position): string {
  return `${(position >> 32n).toString(16).toUpperCase()}/${(position & 0xffffffffn).toString(16).toUpperCase()}`;
}

/** Reads `X/Y`; `undefined` when the text is not a pg_lsn. */
export function parsePosition(text: string): Position | undefined {
  const match = /^([0-9a-fA-F]{1,8})\/([0-9a-fA-F]{1,8})$/.exec(text);
  if (!match) return undefined;
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}
