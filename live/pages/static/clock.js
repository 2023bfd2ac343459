/**
 * Server time: deadlines are absolute, so a wrong clock on the phone must not move them.
 *
 * Time is counted by the browser's monotonic clock, which nobody can set. It may stand still while a
 * device sleeps, so a difference to the wall clock that has changed asks for a new measurement.
 */

const SAMPLES = 3;
const AGAIN_MS = 60_000; // phones drift; measured anew this often
const JUMP_MS = 1_000; // the wall clock was set, or the device slept

export class ServerClock {
  constructor(local = monotonic, wall = () => Date.now()) {
    this.local = local;
    this.wall = wall;
    this.offset = 0;
    this.roundTrip = Infinity;
    this.measuredAt = -Infinity;
    this.ahead = 0; // of the wall clock, before the monotonic one, when measured
  }

  now() {
    return this.local() + this.offset;
  }

  /** A rough value, such as the connect answer's: taken only until a real one was measured. */
  hint(serverTime) {
    if (this.roundTrip === Infinity && serverTime) this.offset = serverTime - this.local();
  }

  /** Of some quick questions the fastest answer is the most exact one. */
  async measure(ask) {
    this.measuredAt = this.local();
    this.ahead = this.wall() - this.measuredAt;
    let best = { roundTrip: Infinity, offset: this.offset };
    for (let i = 0; i < SAMPLES; i += 1) {
      const sent = this.local();
      const { time } = await ask();
      const roundTrip = this.local() - sent;
      if (roundTrip < best.roundTrip) {
        best = { roundTrip, offset: time + roundTrip / 2 - this.local() };
      }
    }
    this.offset = best.offset;
    this.roundTrip = best.roundTrip;
  }

  get due() {
    const now = this.local();
    return now - this.measuredAt >= AGAIN_MS || Math.abs(this.wall() - now - this.ahead) >= JUMP_MS;
  }
}

/** Unix milliseconds as they were when the page was loaded, and from then on by a clock that only goes on. */
export const monotonic = () => performance.timeOrigin + performance.now();

/** "4:05", or "1:02:07" from an hour on. Rounded up, so that 0:00 means over and not almost. */
export function formatRemaining(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60];
  if (seconds >= 3600) parts.unshift(Math.floor(seconds / 3600));
  return parts.map((part, i) => (i ? String(part).padStart(2, "0") : String(part))).join(":");
}
