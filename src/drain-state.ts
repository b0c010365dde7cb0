/** Whether the process is on its way out; the only state that signals and health share. */
export class DrainState {
  isDraining = false;
}
