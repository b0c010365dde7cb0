/**
 * The values that messages are made of, as schemas: they type what we send, check what we receive and write the document
 * that authors of peers read (`docs/asyncapi.yaml`). Times are unix seconds, ids UUID text, keys base64.
 */
import { z } from 'zod';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const UUID_ANY_CASE = /^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$/;
/** 44 characters, padded, no unused bit set: one text for each key. */
const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;

/** An id that we send: lower case. */
export function id<Id extends string>(): z.ZodType<Id, Id> {
  return z.string().regex(UUID) as unknown as z.ZodType<Id, Id>;
}

/** An id that we are sent, in any case; read as lower case, so that it compares with ours. */
export function anyCaseId<Id extends string>() {
  return z
    .string()
    .regex(UUID_ANY_CASE)
    .transform((text) => text.toLowerCase() as Id);
}

/** What views return is never changed by who sends it. */
export function list<Item extends z.ZodType>(item: Item) {
  return z.array(item).readonly();
}

export const key = z.string().regex(KEY).meta({ id: 'Key', description: '32 bytes in padded, standard base64.' });
export const ipv4 = z.string().meta({ id: 'IPv4', format: 'ipv4', description: 'Without prefix.' });
export const ipv6 = z.string().meta({ id: 'IPv6', format: 'ipv6', description: 'Without prefix, zone or brackets.' });
export const port = z.int().min(0).max(65_535);
export const unixSeconds = z.int().positive().meta({ id: 'UnixSeconds', description: 'Seconds since 1970.' });
export const socketAddress = z
  .string()
  .meta({ id: 'SocketAddress', description: '`ip:port`, an IPv6 address in brackets: `[2001:db8::7]:3478`.' });

/** Any JSON object; passed on as it came. */
export const opaqueObject = z.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
);
