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
  const child = fork(fileURLToPath(new URL(`${name}.js`, import.meta.url)));
  child.send(input as Parameters<typeof child.send>[0]);
  const [port] = (await Promise.race([once(child, 'message'), failure(child, name)])) as [number];
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

async function failure(child: ChildProcess, name: string): Promise<never> {
  await once(child, 'exit');
  throw new Error(`${name} ended before it was ready`);
}
