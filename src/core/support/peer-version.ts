/**
 * Versions as peers name themselves in their user agent. Compared by major, minor and patch alone: a release candidate
 * of 1.4.0 speaks the 1.4 protocol, so it counts as 1.4.0 (wire-protocol.md 3.7 recommends the tolerance).
 */
import { parse, type SemVer } from 'semver';

export function isVersion(text: string): boolean {
  return parsed(text) !== null;
}

/** False when `version` is no SemVer text: what we cannot place is older than everything. */
export function isAtLeast(version: string, wanted: string): boolean {
  const known = parsed(wanted);
  return known !== null && (parsed(version)?.compareMain(known) ?? -1) >= 0;
}

/** A fleet has a few dozen versions, but a peer may name itself as it likes: a full cache starts over. */
const MAX_REMEMBERED = 256;
const remembered = new Map<string, SemVer | null>();

/** Every flow asks for the versions of both its peers; reading them again took as long as deciding. */
function parsed(text: string): SemVer | null {
  const known = remembered.get(text);
  if (known !== undefined) return known;
  if (remembered.size >= MAX_REMEMBERED) remembered.clear();
  const version = parse(text);
  remembered.set(text, version);
  return version;
}
