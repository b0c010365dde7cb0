import { describe, it, expect } from '@jest/globals';
import type { Logger } from '../core/support/logger.js';
import { createLogger, type LogLevel } from './logger.js';

describe('createLogger (D37, D8b)', () => {
  it('one line of JSON holds level, time, event and fields', () => {
    const { log, lines } = logInto();
    log.info('channel.joined', { accountId: 'a1', count: 3, isNew: true, nothing: null });
    expect(lines()).toEqual([
      {
        level: 'info',
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
        event: 'channel.joined',
        accountId: 'a1',
        count: 3,
        isNew: true,
        nothing: null,
      },
    ]);
  });

  it('what is below the level is not written', () => {
    const { log, lines } = logInto('warn');
    log.debug('a');
    log.info('b');
    log.warn('c');
    log.error('d');
    expect(lines().map((line) => line['event'])).toEqual(['c', 'd']);
  });

  it('secrets are redacted by the name of their field, at any depth, while ids of tokens stay', () => {
    const { log, text } = logInto();
    log.warn('x', {
      token: 'canary1',
      userPassword: 'canary2',
      preshared: { psk_base: 'canary3', list: [{ clientSecret: 'canary4' }] },
      headers: new Map([['X-Authorization', 'canary5']]),
      tokenId: 'visible',
      tokenKind: 'client',
    });
    expect(text()).not.toContain('canary');
    expect(text()).toContain('"tokenId":"visible","tokenKind":"client"');
  });

  it('our tokens and passwords in URLs are redacted wherever they stand', () => {
    const { log, text } = logInto();
    const token = `pcc_${'a1B2'.repeat(17)}abc`;
    log.info('x', {
      path: `/client/websocket?token=n.${token}&v=1`,
      why: `cannot reach postgres://me:canary@db:5432/x`,
    });
    log.info('q', { url: '/gateway/websocket?vsn=2.0.0&token=canary&version=1' });
    log.info('y', { long: `${'-'.repeat(2030)}${token}` });
    log.info('z', { error: new Error(`refused ${token}`) });
    expect(text()).not.toContain('a1B2a1B2');
    expect(text()).not.toContain('canary');
    expect(text()).toContain('postgres://me:[redacted]@db:5432/x');
  });

  it('text from a peer cannot begin a line, forge a terminal sequence or fill the disk', () => {
    const { log, text, lines } = logInto();
    log.warn('x', { agent: 'a\r\n{"event":"forged"}\u001b[31m\u2028', huge: 'é'.repeat(100_000) });
    expect(text().trim().split('\n')).toHaveLength(1);
    const [line] = lines();
    expect(line?.['agent']).toBe('a\\u000d\\u000a{"event":"forged"}\\u001b[31m\\u2028');
    expect(line?.['huge']).toMatch(/^é{2048}… \(100000 characters\)$/);
  });

  it('a field cannot take the place of what the logger writes', () => {
    const { log, lines } = logInto();
    log.info('push', { event: 'phx_join', level: 'fatal' });
    expect(lines()[0]).toMatchObject({ event: 'push', level: 'info', event_: 'phx_join', level_: 'fatal' });
  });

  it('a bigint is a position', () => {
    const { log, lines } = logInto();
    log.info('x', { position: 0x16b374d848n });
    expect(lines()[0]?.['position']).toBe('16/B374D848');
  });

  it('an error keeps its message, code and causes, not the row a database error quotes', () => {
    const { log, lines, text } = logInto();
    const cause = Object.assign(new Error('duplicate key'), { code: '23505', detail: 'Key (psk)=(canary)' });
    log.error('x', { error: new Error('cannot record', { cause }) });
    expect(lines()[0]?.['error']).toMatchObject({
      message: 'cannot record',
      cause: { message: 'duplicate key', code: '23505' },
    });
    expect(text()).not.toContain('canary');
  });

  it('bytes, functions and values without end are named, not printed', () => {
    const { log, lines } = logInto();
    const loop: Record<string, unknown> = {};
    loop['self'] = loop;
    log.info('x', { key: new Uint8Array(32), task: () => 1, loop, never: Number.NaN });
    expect(lines()[0]).toMatchObject({ key: '[32 bytes]', task: '[function]', never: 'NaN' });
  });

  it('the pretty format is for eyes: one event a block, no JSON', () => {
    const chunks: string[] = [];
    const destination = { write: (chunk: string) => void chunks.push(chunk) };
    createLogger({ level: 'info', format: 'pretty', destination }).info('channel.joined', { accountId: 'a1' });
    expect(chunks.join('')).toMatch(/INFO.*channel\.joined/);
    expect(chunks.join('')).not.toContain('"event"');
  });
});

function logInto(level: LogLevel = 'info'): {
  log: Logger;
  text: () => string;
  lines: () => Record<string, unknown>[];
} {
  const chunks: string[] = [];
  const destination = { write: (chunk: string) => void chunks.push(chunk) };
  const log = createLogger({ level, format: 'json', destination });
  const text = (): string => chunks.join('');
  const lines = (): Record<string, unknown>[] =>
    text()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { log, text, lines };
}
