#!/usr/bin/env node
/** The `portcullis` command. */
import { env } from 'node:process';
import { runCli } from './run-cli.js';

process.exitCode = await runCli(process.argv.slice(2), env, {
  out: (text) => process.stdout.write(`${text}\n`),
  err: (text) => process.stderr.write(`${text}\n`),
});
