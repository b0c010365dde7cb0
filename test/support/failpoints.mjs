/**
 * Loaded into a launched server before its own code (`--import`): places in the product at which it can be killed, or made to
 * throw. The product itself has none, so none can be left on.
 *
 * The file named in PORTCULLIS_TEST_FAILPOINT is read anew at SIGUSR2. It holds `<action> <point> <n>`, and stands for: do
 * this when this point is come to the n-th time from now on. The action is `kill` (SIGKILL, at once) or `throw`. When it is
 * done, the file says `done`.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const from = (file) => import(new URL(`../../dist/src/${file}.js`, import.meta.url).href);
const { AccountBroadcaster } = await from('broadcaster/account-broadcaster');
const { ClientChannel } = await from('channels/client/client-channel');
const { GatewayChannel } = await from('channels/gateway/gateway-channel');
const { HeldFlows } = await from('channels/gateway/held-flows');
const { PhoenixSocket } = await from('channels/socket/phoenix-socket');
const { AccountStore } = await from('store/account-store');
const { AccountStoreRegistry } = await from('store/account-store-registry');

const file = process.env.PORTCULLIS_TEST_FAILPOINT;
/** @type {{ action: string, point: string, left: number } | undefined} */
let armed;

process.on('SIGUSR2', () => {
  const [action, point, n] = readFileSync(file, { encoding: 'utf8', flag: 'a+' }).split(' ');
  armed = n === undefined ? undefined : { action, point, left: Number(n) };
});

function passes(point) {
  if (armed?.point !== point) return;
  armed.left -= 1;
  if (armed.left > 0) return;
  const { action } = armed;
  armed = undefined;
  writeFileSync(file, 'done');
  if (action === 'kill') process.kill(process.pid, 'SIGKILL');
  throw new Error(`failpoint ${point}`);
}

const ALWAYS = () => true;

/** The point is come to before each call of the method. */
function before(type, method, point, counts = ALWAYS) {
  const original = type.prototype[method];
  type.prototype[method] = function (...args) {
    if (counts(...args)) passes(point);
    return original.apply(this, args);
  };
}

/** As soon as a call has returned. */
function after(type, method, point, counts = ALWAYS) {
  const original = type.prototype[method];
  type.prototype[method] = function (...args) {
    const result = original.apply(this, args);
    if (counts(...args)) passes(point);
    return result;
  };
}

const hasChanges = (commit) => commit.changeCount > 0;
const hearsMany = (_step, { gateways, clients }) => gateways.size + clients.size > 1;
const takesBack = (event) => event === 'reject_access' || event === 'resource_deleted';

before(AccountStoreRegistry, 'accept', 'received', hasChanges);
before(AccountBroadcaster, 'publish', 'applied', hearsMany);
after(AccountStoreRegistry, 'accept', 'pushed', hasChanges);
after(PhoenixSocket, 'push', 'in-init', (event) => event === 'init');
after(HeldFlows, 'restore', 'in-reconcile');
after(AccountStore, 'resync', 'in-resync');
after(PhoenixSocket, 'push', 'in-fan-out', takesBack);

before(AccountStore, 'take', 'store-step');
before(GatewayChannel, 'onStep', 'gateway-step');
before(ClientChannel, 'onStep', 'client-step');
after(GatewayChannel, 'onStep', 'gateway-step-done');
before(GatewayChannel, 'receive', 'gateway-frame');
before(ClientChannel, 'receive', 'client-frame');
before(GatewayChannel, 'requestFlow', 'flow-request');
