/** Names for devices that send none, for people to tell them apart in a list. They need not be unique. */
import type { Random } from '../../core/support/clock.js';

/** An adjective and a noun, at most 15 characters. */
export function generatedClientName(random: Random): string {
  return `${pick(ADJECTIVES, random)}-${pick(NOUNS, random)}`;
}

/** Five characters that nobody mistakes for another when reading them aloud. */
export function generatedGatewayName(random: Random): string {
  return Array.from({ length: 5 }, () => pick(FRIENDLY, random)).join('');
}

/** No vowels, so no words; no 0/o, 1/l. */
const FRIENDLY = [...'bcdfghjkmnpqrstvwxz23456789'] as const;

const ADJECTIVES = [
  'amber',
  'brave',
  'calm',
  'clever',
  'eager',
  'early',
  'gentle',
  'golden',
  'happy',
  'honest',
  'ivory',
  'kind',
  'lively',
  'lucky',
  'merry',
  'mighty',
  'noble',
  'proud',
  'quick',
  'quiet',
  'rapid',
  'silent',
  'silver',
  'steady',
  'sunny',
  'swift',
  'vivid',
  'warm',
  'wise',
  'witty',
] as const;

const NOUNS = [
  'badger',
  'beaver',
  'bison',
  'cedar',
  'comet',
  'condor',
  'coral',
  'crane',
  'falcon',
  'fern',
  'finch',
  'harbor',
  'heron',
  'island',
  'lagoon',
  'lark',
  'lynx',
  'maple',
  'marten',
  'meadow',
  'otter',
  'pebble',
  'poplar',
  'raven',
  'river',
  'salmon',
  'sparrow',
  'spruce',
  'tundra',
  'willow',
] as const;

function pick(from: readonly string[], random: Random): string {
  return from[Math.floor(random.fraction() * from.length)] ?? '';
}
