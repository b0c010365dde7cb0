import { describe, expect, it } from '@jest/globals';
import {
  aFlowRecord,
  aGroup,
  anAccount,
  deleted,
  inserted,
  MONDAY_9,
  rawChange,
  rawFlow,
  truncated,
} from '../../../test/support/builders.js';
import type { Change, RawRow } from './commit.js';
import { cutsIn } from './flow-cuts.js';

const flow = aFlowRecord();
const OPEN = rawFlow(flow);
const CUT_BY_HAND = rawFlow(flow, { at: MONDAY_9 });
const CLOSED_BY_US = rawFlow(flow, { at: MONDAY_9, position: '0/0' });
const EXPIRED = rawFlow(aFlowRecord({ expiresAt: MONDAY_9 }));

const update = (old: RawRow, row: RawRow): Change => rawChange('update', 'flows', old, row);
const remove = (old: RawRow): Change => rawChange('delete', 'flows', old, null);
const now = MONDAY_9;

const pair = {
  kind: 'flow',
  flowId: flow.id,
  gatewayId: flow.gatewayId,
  clientId: flow.clientId,
  resourceId: flow.resourceId,
  reason: 'cut-by-hand',
  pushedAt: null,
};

describe('cutsIn (D8a)', () => {
  it.each<[string, Change]>([
    ['our own closing', update(OPEN, CLOSED_BY_US)],
    ['our own closing, position given', update(OPEN, rawFlow(flow, { at: MONDAY_9, position: '16/B374D848' }))],
    ['an edit that revokes nothing', update(OPEN, { ...OPEN, client_remote_ip: null })],
    [
      'an edit of a row that we closed',
      update(CLOSED_BY_US, { ...CLOSED_BY_US, delivered_at: '2026-01-05 09:00:00+00' }),
    ],
    ['the delete of an expired row', remove(EXPIRED)],
    ['the insert of a flow', rawChange('insert', 'flows', null, OPEN)],
    ['a change of another table', deleted('groups', aGroup())],
    ['a TRUNCATE of other tables', truncated('groups')],
  ])('%s is no cut', (_what, change) => {
    expect(cutsIn([change], now)).toEqual([]);
  });

  it('an UPDATE that revokes without a position is a cut of the pair', () => {
    expect(cutsIn([update(OPEN, CUT_BY_HAND)], now)).toEqual([{ ...pair, wasClosed: false, deleted: undefined }]);
  });

  it('an UPDATE of a row that was cut already cuts nothing now', () => {
    expect(cutsIn([update(CUT_BY_HAND, { ...CUT_BY_HAND, revoked_reason: 'typo' })], now)).toEqual([
      { ...pair, wasClosed: true, deleted: undefined },
    ]);
  });

  it('the delete of an unexpired row is a cut, and carries the row to be put back', () => {
    expect(cutsIn([remove(OPEN)], now)).toEqual([{ ...pair, wasClosed: false, deleted: flow }]);
  });

  it.each([
    ['by hand', CUT_BY_HAND, { reason: 'cut-by-hand' }],
    ['by us', { ...CLOSED_BY_US, revoked_reason: 'moved' }, { reason: 'moved' }],
    ['by us, and told', { ...CLOSED_BY_US, pushed_at: '2026-01-05 09:00:00+00' }, { pushedAt: MONDAY_9 }],
    ['and proven to be read', { ...CLOSED_BY_US, delivered_at: '2026-01-05 09:00:00+00' }, { deleted: undefined }],
  ])(
    'the delete of an unexpired row that was closed %s cuts nothing now, but is owed to a gateway that is away until it has read that',
    (_who, row, what) => {
      expect(cutsIn([remove(row)], now)).toEqual([{ ...pair, wasClosed: true, deleted: flow, ...what }]);
    },
  );

  it('a row expires at its expiry', () => {
    expect(cutsIn([remove(EXPIRED)], now - 1)).toHaveLength(1);
    expect(cutsIn([remove(EXPIRED)], now)).toHaveLength(0);
  });

  it.each<[string, RawRow]>([
    ['its expiry', { ...OPEN, expires_at: 'soon' }],
    ['its creation', { ...OPEN, created_at: null }],
    ['its shape', { ...OPEN, resource_shape: '{' }],
    ['what its shape is', { ...OPEN, resource_shape: 'null' }],
  ])('S9: a deleted row of which nobody can read %s is cut all the same', (_what, row) => {
    expect(cutsIn([remove(row)], now)).toEqual([{ ...pair, wasClosed: false, deleted: undefined }]);
  });

  it('TRUNCATE of flows cuts everything', () => {
    expect(cutsIn([truncated('groups', 'flows')], now)).toEqual([{ kind: 'all' }]);
  });

  it('cuts come in the order of the commit', () => {
    const changes = [inserted('groups', aGroup()), update(OPEN, CUT_BY_HAND), truncated('flows'), remove(OPEN)];
    expect(cutsIn(changes, now).map(({ kind }) => kind)).toEqual(['flow', 'all', 'flow']);
  });

  it('flows that go with their account were cut by nobody', () => {
    expect(cutsIn([deleted('accounts', anAccount()), remove(OPEN)], now)).toEqual([]);
  });
});
