/**
 * Loaded into a launched server before its own code (`--import`): says what only the process itself can know. On SIGUSR2,
 * how much memory is in use once all garbage is collected; at its end, which built-in prototype is not as it was.
 */
import { Buffer } from 'node:buffer';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');

const BUILT_INS = {
  Object,
  Array,
  Function,
  String,
  Number,
  Boolean,
  Symbol,
  Promise,
  Map,
  Set,
  Error,
  Buffer,
  RegExp,
};

/** Every own member of every prototype; a changed value is as bad as a new name. */
function prototypesNow() {
  return Object.entries(BUILT_INS).flatMap(([name, { prototype }]) =>
    Reflect.ownKeys(prototype).map((key) => {
      const { value, get, set } = Object.getOwnPropertyDescriptor(prototype, key);
      return { what: `${name}.${String(key)}`, is: [value, get, set] };
    }),
  );
}

const before = prototypesNow();

function say(event, fields) {
  process.stderr.write(`${JSON.stringify({ event, ...fields })}\n`);
}

process.on('SIGUSR2', () => {
  // What a first collection finalizes only a second one frees.
  for (let times = 0; times < 3; times += 1) collectGarbage();
  say('probe.memory', process.memoryUsage());
});

process.on('exit', () => {
  const now = new Map(prototypesNow().map(({ what, is }) => [what, is]));
  const known = new Set(before.map(({ what }) => what));
  const changed = before.filter(({ what, is }) => !is.every((part, i) => part === now.get(what)?.[i]));
  say('probe.prototypes', {
    changed: [...changed.map(({ what }) => what), ...[...now.keys()].filter((what) => !known.has(what))],
  });
});
