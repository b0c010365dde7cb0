/** HTTP as bytes on a TCP connection, for requests that no library would send. */
import { connect } from 'node:net';

export interface RawAnswer {
  /** Of the first response; undefined: the connection was cut without one. */
  readonly status: number | undefined;
  readonly head: string;
  readonly body: string;
  /** How many responses came. */
  readonly responses: number;
}

/** Longer than this no answer may take that needs no database. */
const WAIT_MS = 5000;

/** Resolves when a response is complete, or the connection ends; rejects when neither happens. */
export function exchange(apiUrl: string, request: string | Buffer): Promise<RawAnswer> {
  const { hostname, port } = new URL(apiUrl);
  const connection = connect(Number(port), hostname);
  const chunks: Buffer[] = [];
  return new Promise((resolve, reject) => {
    const finish = (): void => {
      clearTimeout(timer);
      connection.destroy();
      resolve(answerOf(textOf(chunks)));
    };
    const timer = setTimeout(() => {
      connection.destroy();
      reject(new Error(`neither an answer nor an end within ${WAIT_MS} ms; so far: ${textOf(chunks)}`));
    }, WAIT_MS);
    connection.on('data', (chunk) => {
      chunks.push(chunk);
      if (isComplete(textOf(chunks))) finish();
    });
    connection.on('error', () => undefined); // a close follows
    connection.once('close', finish);
    connection.write(request);
  });
}

function textOf(chunks: readonly Buffer[]): string {
  return Buffer.concat(chunks).toString('latin1');
}

function isComplete(text: string): boolean {
  const [head = '', ...rest] = text.split('\r\n\r\n');
  if (rest.length === 0) return false;
  if (head.startsWith('HTTP/1.1 101')) return true;
  if (head.startsWith('HTTP/1.1 100')) return isComplete(rest.join('\r\n\r\n'));
  const length = /^content-length: (\d+)/im.exec(head)?.[1];
  const body = rest.join('\r\n\r\n');
  return length === undefined ? body.endsWith('0\r\n\r\n') : body.length >= Number(length);
}

function answerOf(text: string): RawAnswer {
  const [head = '', ...rest] = text.split('\r\n\r\n');
  const status = /^HTTP\/1\.1 (\d{3})/.exec(head)?.[1];
  return {
    status: status === undefined ? undefined : Number(status),
    head,
    body: rest.join('\r\n\r\n'),
    responses: text.match(/HTTP\/1\.1 \d{3}/g)?.length ?? 0,
  };
}
