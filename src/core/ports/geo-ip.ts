/** Where an address is, from a file on this machine. Used for what no trusted proxy says. */
export interface GeoIpPlace {
  /** ISO 3166-1 alpha-2, upper case. */
  readonly region: string | null;
  /** Degrees; both null in a database of countries. */
  readonly latitude: number | null;
  readonly longitude: number | null;
}

export interface GeoIp {
  /** `undefined`: the database does not know the address. Never throws. @param ip text without port, prefix or zone */
  locate(ip: string): GeoIpPlace | undefined;
}
