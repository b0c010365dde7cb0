/** What a peer of 2025 believes after the frames it was sent: the observations that all checkers rest on. */
import { describe, expect, it } from '@jest/globals';
import { NIL_UUID } from '../../src/core/model/ids.js';
import { ClientModel, GatewayModel } from './peer-models.js';

/** One clock for both: unix seconds times 1000. */
function aGateway(): GatewayModel {
  return new GatewayModel('g', (wallMs) => wallMs);
}

const pair = (client: string, resource: string, expiresAt = 1_000) => ({
  client_id: client,
  resource_id: resource,
  expires_at: expiresAt,
});
const resource = { id: 'r', name: 'one', address: 'a' };

function held(gateway: GatewayModel, at = 5_000): Record<string, unknown> {
  return Object.fromEntries(gateway.finish(at));
}

describe('a gateway', () => {
  it('holds a pair from its grant to its reject', () => {
    const gateway = aGateway();
    gateway.init(0, []);
    gateway.authorized(10, pair('c', 'r'), resource);
    expect(gateway.heldAt(15)).toEqual(['c|r']);
    gateway.rejected(20, pair('c', 'r'));
    expect(gateway.heldAt(25)).toEqual([]);
    expect(held(gateway)).toEqual({ 'g|c|r|a': [{ from: 10, to: 20 }] });
  });

  it('D20a: does not move an expiry for a repeated grant, but for the message that says so', () => {
    const gateway = aGateway();
    gateway.init(0, []);
    gateway.authorized(10, pair('c', 'r', 1), resource);
    gateway.authorized(20, pair('c', 'r', 9), resource);
    gateway.authorized(20, pair('d', 'r', 1), resource);
    gateway.expiryMoved(30, pair('d', 'r', 3));
    expect(held(gateway)).toEqual({
      'g|c|r|a': [{ from: 10, to: 1_000 }],
      'g|d|r|a': [{ from: 20, to: 3_000 }],
    });
  });

  it('holds a resource with the address it was granted with', () => {
    const gateway = aGateway();
    gateway.init(0, []);
    gateway.authorized(10, pair('c', 'r'), resource);
    gateway.authorized(20, pair('c', 'r'), { ...resource, address: 'b' });
    expect(held(gateway)).toEqual({ 'g|c|r|a': [{ from: 10, to: 20 }], 'g|c|r|b': [{ from: 20, to: 5_000 }] });
  });

  it('D22: keeps what it holds while it is away, and of a client that init does not list; a placeholder prunes', () => {
    const gateway = aGateway();
    gateway.init(0, []);
    for (const client of ['listed', 'placeheld', 'forgotten']) gateway.authorized(10, pair(client, 'r'), resource);
    gateway.authorized(10, pair('listed', 's'), { ...resource, id: 's' });
    gateway.closed(20);
    gateway.init(100, [pair('listed', 'r'), pair('placeheld', NIL_UUID), pair('new', 'r')]);
    expect(gateway.heldAt(150).sort()).toEqual(['forgotten|r', 'listed|r', 'new|r']);
    expect(gateway.log.spans).toEqual([{ from: 0, to: 20 }]);
    expect(held(gateway)).toMatchObject({
      'g|placeheld|r|a': [{ from: 10, to: 100 }],
      'g|listed|s|a': [{ from: 10, to: 100 }],
      'g|new|r|*': [{ from: 100, to: 5_000 }],
    });
  });
});

describe('a client', () => {
  it('shows what init listed, and what came and went after it', () => {
    const client = new ClientModel('c');
    client.init(0, [resource]);
    client.changed(10, { id: 's', name: 'two' });
    client.deleted(20, 'r');
    client.closed(30);
    client.init(40, [resource]);
    expect(client.resources).toEqual([resource]);
    expect(Object.fromEntries(client.finish(50))).toEqual({
      'c|r': [
        { from: 0, to: 20 },
        { from: 40, to: 50 },
      ],
      'c|s': [{ from: 10, to: 40 }],
    });
  });

  it('notes each name once a socket, and the same name again on the next', () => {
    const client = new ClientModel('c');
    client.init(0, [resource]);
    client.changed(10, resource);
    client.changed(20, { ...resource, name: 'two' });
    client.closed(30);
    client.init(40, [{ ...resource, name: 'two' }]);
    expect(client.log.names.map(({ socket, name }) => `${socket} ${name}`)).toEqual(['c#0 one', 'c#0 two', 'c#1 two']);
  });
});
