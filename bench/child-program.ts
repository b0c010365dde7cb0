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
    stop: () => endOf(child),
  };
}

/** A child that says more than one thing while it runs. */
export interface Partner<Said> {
  onMessage: (said: Said) => void;
  send(message: unknown): void;
  stop(): Promise<void>;
}

/** Starts a program that sends a first message once it is ready. `input` is handed to it as one message. */
export async function startPartner<Said>(name: string, input: unknown): Promise<Partner<Said>> {
  const child = start(name, input);
  await answerOf(child, name);
  const partner: Partner<Said> = {
    onMessage: () => undefined,
    send: (message) => child.send(message as Parameters<typeof child.send>[0]),
    stop: () => endOf(child),
  };
  child.on('message', (said) => {
    partner.onMessage(said as Said);
  });
  return partner;
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

async function endOf(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill();
  await ended;
}

async function answerOf(child: ChildProcess, name: string): Promise<unknown> {
  const [answer] = (await Promise.race([once(child, 'message'), failure(child, name)])) as [unknown];
  return answer;
}

async function failure(child: ChildProcess, name: string): Promise<never> {
  await once(child, 'exit');
  throw new Error(`${name} ended before it had answered`);
}
