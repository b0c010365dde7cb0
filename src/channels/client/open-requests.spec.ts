import { beforeEach, describe, expect, it } from '@jest/globals';
import { idOf, RESOURCE } from '../../../test/support/builders.js';
import { ManualClock } from '../../../test/support/manual-clock.js';
import type { ResourceId } from '../../core/model/ids.js';
import { OpenRequests } from './open-requests.js';

const OTHER = idOf<ResourceId>('other');

describe('OpenRequests', () => {
  let clock: ManualClock;
  let requests: OpenRequests;

  beforeEach(() => {
    clock = new ManualClock();
    requests = new OpenRequests(clock);
  });

  it('D20b: what was asked before the resource was taken is no longer awaited, what is asked after it is', () => {
    const before = requests.add();
    expect(requests.isAwaited(RESOURCE, before)).toBe(true);
    requests.forget(RESOURCE);
    const after = requests.add();
    expect([requests.isAwaited(RESOURCE, before), requests.isAwaited(RESOURCE, after)]).toEqual([false, true]);
    expect(requests.isAwaited(OTHER, before)).toBe(true);
  });

  it('an answer counts for as long as it is awaited, also a second one', () => {
    const [first, second] = [requests.add(), requests.add()];
    expect([requests.isAwaited(RESOURCE, second), requests.isAwaited(RESOURCE, first)]).toEqual([true, true]);
  });

  it('D26: `offline` is said once per resource and two seconds', () => {
    expect([requests.mayReportOffline(RESOURCE), requests.mayReportOffline(RESOURCE)]).toEqual([true, false]);
    expect(requests.mayReportOffline(OTHER)).toBe(true);
    clock.advance(1999);
    expect(requests.mayReportOffline(RESOURCE)).toBe(false);
    clock.advance(1);
    expect(requests.mayReportOffline(RESOURCE)).toBe(true);
  });

  it('D26: a request for a resource that was taken and given again may hear `offline` at once', () => {
    requests.mayReportOffline(RESOURCE);
    requests.forget(RESOURCE);
    expect(requests.mayReportOffline(RESOURCE)).toBe(true);
  });
});
