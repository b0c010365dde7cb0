/**
 * Versions as peers name themselves in their user agent. Compared by major, minor and patch alone: a release candidate
 * of 1.4.0 speaks the 1.4 protocol, so it counts as 1.4.0 (wire-protocol.md 3.7 recommends the tolerance).
 */
import { parse } from 'semver';

export function isVersion(text: string): boolean {
  return parse(text) !== null;
}

/** False when `version` is no SemVer text: what we cannot place is older than everything. */
export function isAtLeast(version: string, wanted: string): boolean {
  return (parse(version)?.compareMain(wanted) ?? -1) >= 0;
}
