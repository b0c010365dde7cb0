import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Mailbox } from './mailbox.js';

describe('Mailbox', () => {
  let done: string[];
  const onError = jest.fn<(error: unknown) => void>();

  beforeEach(() => {
    done = [];
    onError.mockClear();
  });

  it('runs a task before `post` returns', () => {
    const mailbox = new Mailbox(10, onError);
    expect(mailbox.post(() => done.push('a'))).toBe(true);
    expect(done).toEqual(['a']);
  });

  it('ORD-3: a task posted by a task runs after it, in order of posting', () => {
    const mailbox = new Mailbox(10, onError);
    mailbox.post(() => {
      mailbox.post(() => {
        done.push('second');
        mailbox.post(() => done.push('fourth'));
      });
      mailbox.post(() => done.push('third'));
      done.push('first');
    });
    expect(done).toEqual(['first', 'second', 'third', 'fourth']);
  });

  it('a task that throws closes it, drops what waits, and is reported once', () => {
    const mailbox = new Mailbox(10, onError);
    const failure = new Error('failed');
    mailbox.post(() => {
      mailbox.post(() => done.push('never'));
      throw failure;
    });
    expect(onError.mock.calls).toEqual([[failure]]);
    expect(done).toEqual([]);
    expect(mailbox.post(() => done.push('never'))).toBe(false);
  });

  it('refuses what is beyond its limit, and runs what it took', () => {
    const mailbox = new Mailbox(2, onError);
    const taken: boolean[] = [];
    mailbox.post(() => {
      for (const name of ['a', 'b', 'c']) taken.push(mailbox.post(() => done.push(name)));
    });
    expect(taken).toEqual([true, true, false]);
    expect(done).toEqual(['a', 'b']);
    expect(mailbox.post(() => done.push('d'))).toBe(true);
  });

  it('a closed one runs nothing more, also not what waited', () => {
    const mailbox = new Mailbox(10, onError);
    mailbox.post(() => {
      mailbox.post(() => done.push('never'));
      mailbox.close();
    });
    expect(mailbox.post(() => done.push('never'))).toBe(false);
    expect(done).toEqual([]);
    expect(onError).not.toHaveBeenCalled();
  });
});
