import { COUNTRY_TLDS } from '../model/country-codes.js';

/**
 * What is wrong with the pattern of a `dns` resource; undefined when nothing is. `*` stands for a label or part of one,
 * `?` for one character, `**` for any number of labels. A pattern must not span what many owners share (`*.com`).
 */
export function dnsPatternProblem(pattern: string): string | undefined {
  if (pattern.length === 0 || pattern.length > MAX_LENGTH) return 'must have 1 to 253 characters';
  if (LOOKS_LIKE_IP.test(pattern)) return 'IP addresses are not allowed, use an ip resource';
  const labels = pattern.split('.');
  if (!labels.every((label) => LABEL.test(label))) return 'not a host name';
  if (labels.some((label) => label.length > MAX_LABEL_LENGTH)) return 'a label exceeds 63 characters';
  const last = (labels.at(-1) ?? '').toLowerCase();
  if (/[*?]/.test(last)) return 'the last label contains a wildcard';
  if (last === 'localhost') return 'localhost is no domain of others';
  if (labels.some((label) => label !== '**' && label.includes('**'))) return '** must be a label of its own';
  const isShared = COMMON_TLDS.has(last) || COUNTRY_TLDS.has(last);
  if (isShared && labels.slice(0, -1).every((label) => /^[*?]+$/.test(label))) return 'spans a whole top-level domain';
  return undefined;
}

const MAX_LENGTH = 253;
const MAX_LABEL_LENGTH = 63;

/** Four numbers with or without prefix; every IPv6 address has a colon, which no label may have. */
const LOOKS_LIKE_IP = /^\d+(\.\d+){3}(\/\d+)?$|:/;

/** Letters and digits of any script, with their marks; hyphens inside only. */
const LABEL = /^(?!-)[\p{L}\p{M}\p{Nd}*?-]+(?<!-)$/u;

const COMMON_TLDS: ReadonlySet<string> = new Set('com org net edu gov mil biz info name mobi pro'.split(' '));
