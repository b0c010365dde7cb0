/**
 * A worker thread with one joined client that sends a heartbeat every so often and notes how long the answer took. In a
 * thread of its own, so that a test which makes a flood does not measure itself.
 */
import { performance } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import { WebSocket } from 'ws';

const EVERY_MS = 10;

const { url, headers } = workerData;
const ws = new WebSocket(url, { perMessageDeflate: false, headers });
const sentAt = new Map();
let samples = [];
let ref = 0;

function say(event, payload, topic = 'phoenix') {
  ref += 1;
  sentAt.set(ref, performance.now());
  ws.send(JSON.stringify({ topic, event, payload, ref }));
}

/** The next one only when the last one is answered: a server that stalls is not made busier. */
function beat() {
  if (ws.readyState === WebSocket.OPEN) say('heartbeat', {});
}

ws.on('open', () => say('phx_join', null, 'client'));
ws.on('message', (data) => {
  const frame = JSON.parse(data.toString());
  if (frame.event === 'init') {
    parentPort.postMessage({ joined: true });
    beat();
    return;
  }
  const at = sentAt.get(frame.ref);
  sentAt.delete(frame.ref);
  if (frame.topic !== 'phoenix' || at === undefined) return;
  samples.push(performance.now() - at);
  globalThis.setTimeout(beat, EVERY_MS);
});
ws.on('close', (code) => parentPort.postMessage({ closed: code }));
ws.on('error', (error) => parentPort.postMessage({ failed: error.message }));

parentPort.on('message', (asked) => {
  if (asked === 'take') {
    // One that is not answered yet has taken this long at least.
    const waiting = [...sentAt.values()].map((at) => performance.now() - at);
    parentPort.postMessage({ samples: [...samples, ...waiting] });
    samples = [];
  } else {
    ws.terminate();
    parentPort.close();
  }
});
