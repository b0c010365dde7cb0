import { describe, expect, it } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import { Timeline, timelineStyle } from './timeline.js';

function aTimeline(isColoured = false) {
  const clock = new ManualClock();
  const lines: string[] = [];
  const timeline = new Timeline(clock, timelineStyle(isColoured), (line) => lines.push(line));
  return { clock, lines, timeline, start: clock.now() };
}

const POLICY_OFF = { position: 0x16b374d848n, what: ['update policies'] };

describe('Timeline', () => {
  it('shows a push with the position of the last commit before it and the milliseconds between them', () => {
    const { lines, timeline, start } = aTimeline();
    timeline.heard({ at: start + 3, peer: 'gateway', event: 'reject_access', about: 'Wiki' });
    timeline.committed({ ...POLICY_OFF, committedAt: start }); // the event store learns of it after the peer
    timeline.committed({ position: 0x16b374d900n, committedAt: start + 4, what: ['insert groups'] });
    timeline.stop();
    expect(lines.map((line) => line.slice(14))).toEqual([
      '16/B374D848             commit   update policies',
      '16/B374D848     +3 ms   gateway  reject_access  Wiki',
      '16/B374D900             commit   insert groups',
    ]);
  });

  it('does not blame a commit for what came long after it, nor for the answer to a request', () => {
    const { lines, timeline, start } = aTimeline();
    timeline.committed({ ...POLICY_OFF, committedAt: start });
    const answers = { request: 'create_flow', afterMs: 2.25 };
    timeline.heard({ at: start + 1, peer: 'client', event: 'flow_created', about: 'Wiki', answers });
    timeline.heard({ at: start + 60_000, peer: 'gateway', event: 'reject_access', about: 'Wiki' });
    timeline.stop();
    expect(lines.slice(1).map((line) => line.slice(14).trim())).toEqual([
      'client   flow_created  Wiki  (2.3 ms after create_flow)',
      'gateway  reject_access  Wiki  (no commit just before it)',
    ]);
  });

  it('keeps what was heard and done within one millisecond in its order, after the commits of that millisecond', () => {
    const { lines, timeline, start } = aTimeline();
    const answers = { request: 'create_flow', afterMs: 0.4 };
    timeline.note('gateway  authorize_flow');
    timeline.heard({ at: start, peer: 'client', event: 'flow_created', about: 'Wiki', answers });
    timeline.committed({ ...POLICY_OFF, committedAt: start });
    timeline.stop();
    expect(lines.map((line) => line.slice(35).trim().split(/ +/)[1])).toEqual([
      'update',
      'authorize_flow',
      'flow_created',
    ]);
  });

  it('holds a line until the event store has had time to learn of the commit, then prints it once', () => {
    const { clock, lines, timeline, start } = aTimeline();
    timeline.start();
    timeline.heard({ at: start, peer: 'client', event: 'resource_deleted', about: 'Wiki' });
    clock.advance(1_000);
    expect(lines).toEqual([]);
    timeline.committed({ ...POLICY_OFF, committedAt: start - 2 });
    clock.advance(100);
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain('+2 ms');
    timeline.stop();
    expect(lines).toHaveLength(2);
  });

  it('does not wait for ever for a commit that explains a push', async () => {
    const { clock, lines, timeline, start } = aTimeline();
    timeline.start();
    timeline.heard({ at: start, peer: 'gateway', event: 'reject_access', about: 'Wiki' });
    const settled = timeline.settled();
    clock.advance(2_000);
    await settled;
    expect(lines).toHaveLength(1);
    timeline.stop();
  });

  it('writes escape codes only when asked to', () => {
    for (const isColoured of [true, false]) {
      const { lines, timeline, start } = aTimeline(isColoured);
      timeline.heard({ at: start, peer: 'gateway', event: 'reject_access', about: 'Wiki' });
      timeline.stop();
      expect(lines.join().includes('\u001b[31m')).toBe(isColoured);
    }
  });
});
