/** The version of a peer, which it tells only in its user agent (wire-protocol.md 1.3). */
const PREFIXES = [
  'connlib/',
  'relay/',
  'headless-client/',
  'gui-client/',
  'apple-client/',
  'android-client/',
  'gateway/',
] as const;

/** Both go into the session row, where a NUL cannot stand. Longer ones are nobody's. */
const MAX_VERSION_LENGTH = 255;
const MAX_USER_AGENT_LENGTH = 2000;

/**
 * The text after the slash of the first word that names a component; an operating system's name before it may contain
 * spaces. Any text: whether it is a SemVer is judged at the join. `undefined` when there is none: refused with 422.
 */
export function versionOf(userAgent: string | undefined): string | undefined {
  if (userAgent === undefined || userAgent.length > MAX_USER_AGENT_LENGTH || userAgent.includes('\0')) return undefined;
  for (const word of userAgent.split(' ')) {
    const prefix = PREFIXES.find((candidate) => word.startsWith(candidate));
    if (prefix === undefined) continue;
    const version = word.slice(prefix.length);
    return version.length > 0 && version.length <= MAX_VERSION_LENGTH ? version : undefined;
  }
  return undefined;
}
