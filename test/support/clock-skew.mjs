/**
 * Loaded into a launched server before its own code (`--import`): its wall clock is wrong by as many milliseconds as the file
 * named in PORTCULLIS_TEST_CLOCK says, read anew at SIGUSR2. Timers go on as they are, as when a machine's clock is set.
 */
import { readFileSync } from 'node:fs';

const file = process.env.PORTCULLIS_TEST_CLOCK;
const realNow = Date.now.bind(Date);
let wrongByMs = 0;

Date.now = () => realNow() + wrongByMs;

process.on('SIGUSR2', () => {
  wrongByMs = Number(readFileSync(file, { encoding: 'utf8', flag: 'a+' })); // right while nothing was written
});
