/** The history, replayed, is what was so: the other half of what the checkers compare. */
import { describe, expect, it } from '@jest/globals';
import { replay } from './replay.js';
import type { Row, WitnessedChange, WitnessedCommit } from './witness.js';

const NOW = performance.now();
const own = { account_id: 'a' };
const POLICY: Row = { ...own, id: 'p', group_id: 'gr', resource_id: 'r', conditions: '[]', disabled_at: null };
const RESOURCE: Row = { ...own, id: 'r', name: 'one', address: 'x', address_description: null, filters: '[]' };
const FLOW: Row = {
  ...{ ...own, id: 'f', gateway_id: 'g', client_id: 'c', resource_id: 'r', expires_at: '2099-01-01 00:00:00+00' },
  ...{ revoked_at: null, revoked_position: null },
};

const insert = (table: string, row: Row): WitnessedChange => ({ op: 'insert', table, old: null, new: row });
const remove = (table: string, row: Row): WitnessedChange => ({ op: 'delete', table, old: row, new: null });
const update = (table: string, old: Row, set: Row): WitnessedChange => ({
  ...{ op: 'update', table, old },
  new: { ...old, ...set },
});

const WORLD: readonly WitnessedChange[] = [
  insert('accounts', { id: 'a', disabled_at: null }),
  insert('actors', { ...own, id: 'ac', disabled_at: null }),
  insert('groups', { ...own, id: 'gr' }),
  insert('memberships', { ...own, id: 'm', actor_id: 'ac', group_id: 'gr' }),
  insert('sites', { ...own, id: 's' }),
  insert('gateways', { ...own, id: 'g', site_id: 's', external_id: 'gateway' }),
  insert('clients', { ...own, id: 'c', actor_id: 'ac', external_id: 'client', verified_at: null }),
  insert('resources', RESOURCE),
  insert('resource_sites', { ...own, resource_id: 'r', site_id: 's' }),
  insert('policies', POLICY),
  insert('tokens', { ...own, id: 't', kind: 'client', actor_id: 'ac', identity_id: null, expires_at: null }),
  insert('client_sessions', { ...own, client_id: 'c', token_id: 't', remote_ip: '127.0.0.1', region: null }),
];

/** One commit each 10 ms. */
function history(...commits: readonly (readonly WitnessedChange[])[]) {
  const witnessed = [WORLD, ...commits].map((changes, i): WitnessedCommit => ({
    position: BigInt(i + 1),
    at: NOW + i * 10,
    xid: i,
    mark: undefined,
    changes,
  }));
  const truth = replay(witnessed, NOW + 1_000);
  const spans = (timeline: readonly { from: number; to: number }[] = []) =>
    timeline.map(({ from, to }) => [Math.round(from - NOW), Math.round(to - NOW)]);
  return {
    truth,
    justified: (address = '*') => spans(truth.justified.get(`gateway|client|r|${address}`)),
    shown: () => spans(truth.shown.get('client|r')),
    welcome: () => spans(truth.welcome.get('t')),
  };
}

describe('the replayed history', () => {
  it('justifies a pair from the commit that allows it to the one that does not', () => {
    const { justified, shown } = history([remove('policies', POLICY)], [insert('policies', POLICY)]);
    expect(justified()).toEqual([
      [0, 10],
      [20, 1_000],
    ]);
    expect(shown()).toEqual(justified());
  });

  it('G2: sees nothing of what is there only inside a commit', () => {
    const { justified, truth } = history([
      update('policies', POLICY, { disabled_at: '2026-01-01 00:00:00+00' }),
      update('policies', POLICY, {}),
      update('resources', RESOURCE, { name: 'two' }),
      update('resources', { ...RESOURCE, name: 'two' }, { name: 'three' }),
    ]);
    expect(justified()).toEqual([[0, 1_000]]);
    expect([...truth.names]).toEqual([
      ['r one', 1n],
      ['r three', 2n],
    ]);
  });

  it('justifies a pair for the address that the resource has', () => {
    const { justified } = history([update('resources', RESOURCE, { address: 'y' })]);
    expect([justified('x'), justified('y'), justified()]).toEqual([[[0, 10]], [[10, 1_000]], [[0, 1_000]]]);
  });

  it('ends with a token at its own time, with TRUNCATE at once, and with an account that is disabled', () => {
    const expiresAt = new Date(performance.timeOrigin + NOW + 500).toISOString().replace('Z', '+00').replace('T', ' ');
    const token = { ...own, id: 't', kind: 'client', actor_id: 'ac', identity_id: null, expires_at: null };
    const [[, end] = []] = history([update('tokens', token, { expires_at: expiresAt })]).justified();
    expect(Math.abs((end ?? 0) - 500)).toBeLessThan(20);
    const truncated: WitnessedChange = { op: 'truncate', table: 'memberships', old: null, new: null };
    expect(history([truncated]).justified()).toEqual([[0, 10]]);
    const disabled = history([update('accounts', { id: 'a', disabled_at: null }, { disabled_at: 'infinity' })]);
    expect([disabled.justified(), disabled.welcome()]).toEqual([[[0, 10]], [[0, 10]]]);
  });

  it('S9: grants nothing for what nobody can read', () => {
    const conditions = '[null, {"property": 1}]';
    expect(history([update('policies', POLICY, { conditions })]).justified()).toEqual([[0, 10]]);
    const filters = '[{"protocol": "sctp"}]';
    expect(history([update('resources', RESOURCE, { filters })]).shown()).toEqual([[0, 10]]);
  });

  it('D8a: knows a cut by hand from what the product writes itself', () => {
    const revoked = { revoked_at: '2026-01-01 00:00:00+00' };
    expect(history([remove('flows', FLOW)]).truth.cuts.map(({ key }) => key)).toEqual(['gateway|client|r']);
    expect(history([update('flows', FLOW, revoked)]).truth.cuts).toHaveLength(1);
    expect(history([update('flows', FLOW, { ...revoked, revoked_position: '0/1' })]).truth.cuts).toEqual([]);
    expect(history([remove('flows', { ...FLOW, ...revoked })]).truth.cuts).toEqual([]);
  });
});
