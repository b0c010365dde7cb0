/** Where the system looks for programs, for those we start ourselves. Not configuration of ours, hence not in Config. */
export function searchPath(): string | undefined {
  return process.env['PATH'];
}
