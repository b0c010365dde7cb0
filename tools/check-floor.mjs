/**
 * Fails when package-lock.json holds a package below its lowest safe version (tools/floor.json, decision D48).
 * Needs no network, unlike `npm audit`. Proves itself on planted lock files first.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import semver from 'semver';

const read = (path) => JSON.parse(fs.readFileSync(new URL(path, import.meta.url), 'utf8'));

proveItself();
const floors = read('./floor.json');
const faults = faultsIn(read('../package-lock.json'), floors);
for (const fault of faults) console.error(fault);
console.log(`floor: ${floors.length} packages, ${faults.length} faults`);
process.exitCode = faults.length === 0 ? 0 : 1;

/** One line for each copy below its floor, wherever npm put it, and for each floor that no longer guards anything. */
function faultsIn(lock, floors) {
  const copies = Object.entries(lock.packages).map(([place, entry]) => ({
    place,
    name: entry.name ?? place.split('node_modules/').at(-1), // `name` is there when an alias hides it
    version: entry.version,
  }));
  return floors.flatMap((floor) => {
    const found = copies.filter((copy) => copy.place !== '' && copy.name === floor.package);
    if (found.length === 0) return [`${floor.package} is not in the lock file: drop its floor`];
    return found
      .filter((copy) => !semver.gte(copy.version, floor.lowest))
      .map((copy) => `${copy.place} is ${copy.version}, below ${floor.lowest}: ${floor.advisory}. ${floor.reason}`);
  });
}

function proveItself() {
  const floor = { package: 'p', lowest: '8.21.1', advisory: 'A', reason: 'R' };
  const faultCount = (packages) =>
    faultsIn({ packages: { '': { name: 'p', version: '0.1.0' }, ...packages } }, [floor]).length;
  assert.equal(faultCount({ 'node_modules/p': { version: '8.21.1' } }), 0, 'the floor itself is safe');
  assert.equal(faultCount({ 'node_modules/p': { version: '8.100.0' } }), 0, 'versions compare as numbers');
  assert.equal(faultCount({ 'node_modules/p': { version: '8.21.0' } }), 1, 'below the floor');
  assert.equal(faultCount({ 'node_modules/p': { version: '8.21.1-rc.1' } }), 1, 'a candidate is below its release');
  const nested = { 'node_modules/p': { version: '9.0.0' }, 'node_modules/q/node_modules/p': { version: '7.0.0' } };
  assert.equal(faultCount(nested), 1, 'a nested copy counts');
  assert.equal(faultCount({ 'node_modules/q': { name: 'p', version: '7.0.0' } }), 1, 'an alias counts');
  assert.equal(faultCount({ 'node_modules/@s/p': { version: '1.0.0' } }), 1, 'a floor without its package is reported');
}
