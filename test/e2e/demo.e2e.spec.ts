/** The tour, as a newcomer starts it: on a running server, and without one. */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { SystemClock } from '../../src/system/system-clock.js';
import { runCommand } from '../support/run-command.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

jest.setTimeout(40_000);

const WIKI_POLICY = 'de000000-0000-4000-8000-000000000081';

let server: TestServer;

beforeAll(async () => {
  server = await startTestServer();
});

afterAll(() => server.close());

describe('portcullis demo', () => {
  it('--once opens a flow, cuts it by SQL, opens it again, and ends with 0', async () => {
    const { code, out, err } = await runCommand(server.db.url, ['demo', '--once', '--api', server.api]);
    expect(err).toBe('demo: the cut and the new flow were heard');
    expect(code).toBe(0);
    expect(storyOf(out)).toEqual([
      'gateway authorize_flow',
      'client flow_created',
      'commit update policies',
      'gateway reject_access',
      'client resource_deleted',
      'commit update policies',
      'client resource_created_or_updated',
      'gateway authorize_flow',
      'client flow_created',
    ]);
    expect(out).toMatch(/ [0-9A-F]+\/[0-9A-F]+ +\+\d+ ms +gateway +reject_access +Wiki/);
    expect(out).not.toContain('\u001b');
    const { rows } = await server.db.query('SELECT disabled_at FROM policies WHERE id = $1', [WIKI_POLICY]);
    expect(rows).toEqual([{ disabled_at: null }]);
  });

  it('goes on until Ctrl-C, and asks for the flow again when access comes back', async () => {
    const terminal = new Screen();
    const running = runCommand(server.db.url, ['demo', '--api', server.api], {}, terminal.print);
    try {
      await terminal.shows('client   flow_created');
      expect(terminal.text()).toContain(`UPDATE policies SET disabled_at = now() WHERE id = '${WIKI_POLICY}'`);
      terminal.clear();
      await server.db.query('DELETE FROM policies WHERE id = $1', [WIKI_POLICY]);
      await terminal.shows('client   resource_deleted');
      expect(storyOf(terminal.text())).toEqual([
        'commit delete policies',
        'gateway reject_access',
        'client resource_deleted',
      ]);
      terminal.clear();
      expect((await runCommand(server.db.url, ['seed'])).code).toBe(0);
      await terminal.shows('client   flow_created');
    } finally {
      process.emit('SIGINT');
      expect((await running).code).toBe(0);
    }
  });

  it('says how to start a server when none answers', async () => {
    const { code, err } = await runCommand(server.db.url, ['demo', '--api', 'http://127.0.0.1:1']);
    expect(code).toBe(1);
    expect(err).toContain('no server answers at http://127.0.0.1:1; start it with "npm start"');
  });

  it('says so when what answers is something else', async () => {
    const { code, err } = await runCommand(server.db.url, ['demo', '--api', `${server.ops}/elsewhere`]);
    expect(code).toBe(1);
    expect(err).toContain('is not Portcullis');
  });

  it('refuses unknown flags with its help', async () => {
    const { code, err } = await runCommand(server.db.url, ['demo', '--forever']);
    expect(code).toBe(2);
    expect(err).toContain('usage: portcullis demo [--once]');
  });
});

/** From the first flow on: who heard what and what was committed, without times. */
function storyOf(out: string): string[] {
  return out.split('\n').flatMap((line) => {
    const match = /(client|gateway|commit) +(\w+(?: \w+)?)/.exec(line.slice(38));
    const [, who = '', what = ''] = match ?? [];
    const [event = ''] = what.split(' ');
    if (who === 'commit') return /policies/.test(what) ? [`commit ${what}`] : [];
    return STORY.has(event) ? [`${who} ${event}`] : [];
  });
}

const STORY = new Set([
  'authorize_flow',
  'flow_created',
  'reject_access',
  'resource_deleted',
  'resource_created_or_updated',
]);

/** What a person would see, and a way to wait for it. */
class Screen {
  #lines: string[] = [];
  readonly #clock = new SystemClock();
  readonly #wake = new Set<() => void>();

  readonly print = (line: string): void => {
    this.#lines.push(line);
    for (const wake of [...this.#wake]) wake();
  };

  text(): string {
    return this.#lines.join('\n');
  }

  clear(): void {
    this.#lines = [];
  }

  shows(text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!this.text().includes(text)) return;
        cancel();
        this.#wake.delete(look);
        resolve();
      };
      const cancel = this.#clock.after(10_000, () => {
        this.#wake.delete(look);
        reject(new Error(`"${text}" was not shown; shown: ${this.text()}`));
      });
      this.#wake.add(look);
      look();
    });
  }
}
