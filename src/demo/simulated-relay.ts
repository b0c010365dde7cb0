/** A relay that is online and relays nothing: peers need one to be listed before they set up a flow. */
import { RustPeer } from './rust-peer.js';
import { textMember, type PeerOptions } from './simulated-peer.js';

const USER_AGENT = 'relay/0.1.0 (portcullis demo)';
/** Documentation range (RFC 5737): nobody is there, and nobody in the tour sends anything there. */
const ADDRESS = '203.0.113.7';

/** @param stampSecret new at each start of a relay; hex */
export function simulatedRelay(with_: Omit<PeerOptions, 'externalId' | 'publicKey'>, stampSecret: string): RustPeer {
  const query = { token: with_.token, ipv4: ADDRESS };
  const identity = { role: 'relay' as const, userAgent: USER_AGENT, query, join: { stamp_secret: stampSecret } };
  const peer = new RustPeer(identity, with_, (event, payload) => {
    if (event === 'init') with_.note('relay    init  peers may be sent to it');
    if (event === 'disconnect') peer.end(`${textMember(payload, 'reason')} (a real relay exits)`);
  });
  return peer;
}
