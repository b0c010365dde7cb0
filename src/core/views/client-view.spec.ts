import { describe, expect, it } from '@jest/globals';
import { aResource, aSite, idOf, RESOURCE } from '../../../test/support/builders.js';
import type { ResourceId, SiteId } from '../model/ids.js';
import type { ResourceRow, SiteRow } from '../model/rows.js';
import { ClientView, type ShownResource, type ViewDifference } from './client-view.js';

const PARIS = aSite({ id: idOf<SiteId>('paris'), name: 'Paris' });
const shown = (resource: Partial<ResourceRow> = {}, ...sites: SiteRow[]): ShownResource => ({
  resource: aResource(resource),
  sites: sites.length > 0 ? sites : [aSite()],
});

/** What is said when the second state follows the first. */
function said(before: ShownResource | undefined, after: ShownResource | undefined): ViewDifference {
  const view = new ClientView();
  view.update([RESOURCE], () => before);
  return view.update([RESOURCE], () => after);
}

const NOTHING = { removed: [], upserted: [] };

describe('ClientView', () => {
  it('says what is new, once', () => {
    expect(said(undefined, shown())).toEqual({ removed: [], upserted: [shown()] });
    expect(said(shown(), shown())).toEqual(NOTHING);
    expect(said(undefined, undefined)).toEqual(NOTHING);
  });

  it('takes back what is gone, once', () => {
    expect(said(shown(), undefined)).toEqual({ removed: [RESOURCE], upserted: [] });
  });

  it.each<[string, ShownResource]>([
    ['name', shown({ name: 'New' })],
    ['description', shown({ addressDescription: 'New' })],
    ['address', shown({ address: 'new.acme.example' })],
    ['ip stack', shown({ ipStack: 'ipv4_only' })],
    ['filters', shown({ filters: [{ protocol: 'icmp', ports: [] }] })],
    ['name of the site', shown({}, aSite({ name: 'New' }))],
  ])('decisions 5: a new %s is an update', (_what, after) => {
    expect(said(shown(), after)).toEqual({ removed: [], upserted: [after] });
  });

  it.each<[string, ShownResource]>([
    ['type', shown({ type: 'cidr', address: '10.0.0.0/8', ipStack: null })],
    ['site', shown({}, PARIS)],
    ['second site', shown({}, aSite(), PARIS)],
  ])('decisions 5: another %s removes the resource and adds it again', (_what, after) => {
    expect(said(shown(), after)).toEqual({ removed: [RESOURCE], upserted: [after] });
  });

  it('VIEW-1: what came and went between two looks is not said', () => {
    const view = new ClientView();
    view.update([RESOURCE], () => shown());
    expect(view.update([RESOURCE], () => shown({ name: 'New' })).upserted).toHaveLength(1);
    expect(view.update([RESOURCE], () => shown({ name: 'New' }))).toEqual(NOTHING);
  });

  it('D12: both lists are in the order of ids, whatever is asked for in which order', () => {
    const names = ['c', 'a', 'b'].map((name) => idOf<ResourceId>(name));
    const view = new ClientView();
    const added = view.update([...names, ...names], (id) => shown({ id }));
    expect(added.upserted.map(({ resource }) => resource.id)).toEqual([...names].sort());
    expect(view.update(names, () => undefined).removed).toEqual([...names].sort());
  });

  it.each<[string, ShownResource]>([
    ['looks the same', shown()],
    ['was renamed', shown({ name: 'New' })],
  ])('D20b: what is to be made anew is removed and added again when it %s', (_what, after) => {
    const view = new ClientView();
    const anew = new Set([RESOURCE]);
    expect(view.update([RESOURCE], () => undefined, anew)).toEqual(NOTHING);
    expect(view.update([RESOURCE], () => shown(), anew)).toEqual({ removed: [], upserted: [shown()] });
    expect(view.update([RESOURCE], () => after, anew)).toEqual({ removed: [RESOURCE], upserted: [after] });
    expect(view.update([RESOURCE], () => undefined, anew)).toEqual({ removed: [RESOURCE], upserted: [] });
  });

  it('looks at nothing it was not asked to look at', () => {
    const view = new ClientView();
    view.update([RESOURCE], () => shown());
    expect(view.update([idOf<ResourceId>('other')], () => undefined)).toEqual(NOTHING);
    expect([view.has(RESOURCE), [...view.toldIds()]]).toEqual([true, [RESOURCE]]);
  });
});
