/** Reads variables one by one and collects what is wrong with them, so that an operator repairs all in one go. */
import ipaddr from 'ipaddr.js';
import type { Cidr } from './config.js';
import { ConfigError } from './config-error.js';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Range {
  readonly min: number;
  readonly max: number;
}

/** After a fault the default is returned: the value is not used, because `throwIfFaulty` comes before anybody sees it. */
export class EnvironmentReader {
  readonly #faults: string[] = [];

  constructor(private readonly env: Environment) {}

  /** A whole number of at least 1. */
  positiveInt(name: string, byDefault: number): number {
    return this.integer(name, byDefault, { min: 1, max: Number.MAX_SAFE_INTEGER });
  }

  integer(name: string, byDefault: number, { min, max }: Range): number {
    const text = this.#read(name);
    if (text === undefined) return byDefault;
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    const limits = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
    return this.#reject(name, text, `must be a whole number ${limits}`, byDefault);
  }

  oneOf<Value extends string>(name: string, byDefault: Value, allowed: readonly Value[]): Value {
    const text = this.#read(name);
    if (text === undefined) return byDefault;
    const value = allowed.find((candidate) => candidate === text);
    return value ?? this.#reject(name, text, `must be one of ${allowed.join(', ')}`, byDefault);
  }

  flag(name: string, byDefault: boolean): boolean {
    return this.oneOf(name, byDefault ? 'true' : 'false', ['true', 'false']) === 'true';
  }

  /** A name that goes into SQL and replication commands, which take no parameters: allow-listed, never escaped. */
  identifier(name: string, byDefault: string): string {
    const text = this.#read(name) ?? byDefault;
    if (/^[a-z_][a-z0-9_]{0,40}$/.test(text)) return text;
    return this.#reject(name, text, 'must match [a-z_][a-z0-9_]{0,40}', byDefault);
  }

  host(name: string, byDefault: string): string {
    const text = this.#read(name) ?? byDefault;
    if (ipaddr.isValid(text) || /^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(text)) return text;
    return this.#reject(name, text, 'must be an IP address or a host name, without port', byDefault);
  }

  path(name: string, byDefault: string): string {
    const text = this.#read(name) ?? byDefault;
    return text.includes('\0') ? this.#reject(name, text, 'must be a path', byDefault) : text;
  }

  optionalPath(name: string): string | undefined {
    return this.#read(name) === undefined ? undefined : this.path(name, '');
  }

  /** Undefined when unset. The fault never quotes the value, which holds a password. */
  postgresUrl(name: string): string | undefined {
    const text = this.#read(name);
    if (text === undefined) return undefined;
    if (!URL.canParse(text)) return this.fault(name, 'is not a URL (postgres://user:password@host:port/database)');
    const url = new URL(text);
    if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:') {
      return this.fault(name, 'must begin with postgres:// or postgresql://');
    }
    if (url.pathname.length < 2) return this.fault(name, 'names no database');
    return text;
  }

  /** Separated by commas or blanks; an address without a length stands for itself alone. */
  cidrs(name: string): readonly Cidr[] {
    const texts = (this.#read(name) ?? '').split(/[\s,]+/).filter((text) => text !== '');
    return texts.flatMap((text) => {
      const cidr = parseCidr(text);
      return cidr ? [cidr] : this.#reject<Cidr[]>(name, text, 'must be IP addresses or ranges like 10.0.0.0/8', []);
    });
  }

  fault(name: string, fault: string): undefined {
    this.#faults.push(`${name} ${fault}`);
  }

  throwIfFaulty(): void {
    if (this.#faults.length > 0) throw new ConfigError(this.#faults);
  }

  /** Empty counts as unset: env files and compose files can often not say it otherwise. */
  #read(name: string): string | undefined {
    const text = this.env[name]?.trim();
    return text === '' ? undefined : text;
  }

  #reject<Value>(name: string, text: string, rule: string, instead: Value): Value {
    this.fault(name, `${rule}, not ${JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)}`);
    return instead;
  }
}

/** The lenient forms of the library (`10.1`, octal, hexadecimal) are refused: other programs read them differently. */
function parseCidr(text: string): Cidr | undefined {
  const [address = '', length, ...rest] = text.split('/');
  if (rest.length > 0 || (length !== undefined && !/^\d{1,3}$/.test(length))) return undefined;
  if (!ipaddr.IPv4.isValidFourPartDecimal(address) && !ipaddr.IPv6.isValid(address)) return undefined;
  const parsed = ipaddr.parse(address);
  const bits = parsed.kind() === 'ipv4' ? 32 : 128;
  const prefixLength = length === undefined ? bits : Number(length);
  return prefixLength <= bits ? [parsed, prefixLength] : undefined;
}
