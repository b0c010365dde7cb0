/** Programs of the bench that run as processes of their own, as the server under test does. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface ChildProgram {
  /** `ws://…` where it listens. */
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** Starts a program that sends its port once it is ready. `input` is handed to it as one message. */
export async function startChild(name: 'bare-relay' | 'bare-slot-reader', input: unknown): Promise<ChildProgram> {
  const child = start(name, input);
  const port = (await answerOf(child, name)) as number;
  return {
    url: `ws://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    stop: async () => {
      const ended = once(child, 'exit');
      child.kill();
      await ended;
    },
  };
}

/** Runs a program that sends one answer and ends. @param nodeOptions of its process */
export async function runChild(name: string, input: unknown, nodeOptions: readonly string[] = []): Promise<unknown> {
  const child = start(name, input, nodeOptions);
  const ended = once(child, 'exit');
  const answer = await answerOf(child, name);
  await ended;
  return answer;
}

function start(name: string, input: unknown, nodeOptions: readonly string[] = []): ChildProcess {
  const child = fork(fileURLToPath(new URL(`${name}.js`, import.meta.url)), { execArgv: [...nodeOptions] });
  const kill = (): boolean => child.kill();
  process.once('exit', kill);
  child.once('exit', () => process.removeListener('exit', kill));
  child.send(input as Parameters<typeof child.send>[0]);
  return child;
}

async function answerOf(child: ChildProcess, name: string): Promise<unknown> {
  const [answer] = (await Promise.race([once(child, 'message'), failure(child, name)])) as [unknown];
  return answer;
}

async function failure(child: ChildProcess, name: string): Promise<never> {
  await once(child, 'exit');
  throw new Error(`${name} ended before it had answered`);
}
