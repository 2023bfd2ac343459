/**
 * The viewer's places in line.
 *
 * Always: a place that is shown was told a moment ago. Nobody announces that others left the line,
 * so the page asks: the repeat of `waitlist.join` with its key gives the place as it is now.
 */

import { CallError, newKey } from "./client.js";
import { monotonic } from "./clock.js";

const AGAIN_MS = 5_000; // after figures that changed
const QUIET_MS = 20_000; // without any

export class Waitlist {
  constructor(purchase) {
    this.purchase = purchase;
    this.viewer = purchase.viewer;
    this.askedAt = -Infinity;
    this.changed = false;
  }

  get places() {
    return this.viewer.model.waiting;
  }

  async join(id, qty) {
    const key = newKey();
    const answer = await this.purchase.ask(id, "waitlist.join", { offer: id, qty, key });
    if (answer) this.take(id, qty, key, answer);
    return answer;
  }

  take(id, qty, key, { outcome, position }) {
    if (outcome === "waitlisted") this.places.set(id, { offer: id, qty, key, position });
    else if (outcome === "held") this.purchase.takeHeld(this.held(id, qty, key));
    else this.purchase.refused({ outcome, offer: id }, qty);
    this.viewer.draw(["offers"]);
  }

  /** A unit came back just then. The answer names no deadline; the offer's hold time is close. */
  held(id, qty, key) {
    const { price_minor, currency, hold_seconds: seconds } = this.viewer.model.offers.get(id);
    const expires_at = this.viewer.clock.now() + seconds * 1000;
    return { hold: key, offer: id, qty, price_minor, currency, expires_at };
  }

  async leave(id) {
    const answer = await this.purchase.ask(id, "waitlist.leave", { offer: id });
    if (!answer) return;
    this.places.delete(id);
    this.viewer.draw(["offers"]);
    this.purchase.say("say_left_waitlist");
  }

  /** New figures: somebody may have moved. */
  heard() {
    this.changed = true;
  }

  tick() {
    const now = monotonic();
    if (document.hidden || !this.places.size || this.viewer.connection.state !== "connected") return;
    if (now - this.askedAt < (this.changed ? AGAIN_MS : QUIET_MS)) return;
    this.askedAt = now + Math.random() * 1_000; // those who wait must not all ask at once
    this.changed = false;
    for (const place of [...this.places.values()]) this.renew(place);
  }

  async renew({ offer, qty, key }) {
    try {
      const answer = await this.viewer.connection.rpc("waitlist.join", { offer, qty, key });
      // A grant comes as an event of its own, with its deadline.
      if (answer.outcome !== "waitlisted" || this.places.get(offer)?.key !== key) return;
      this.places.set(offer, { offer, qty, key, position: answer.position });
      this.viewer.draw(["offers"]);
    } catch (error) {
      if (!(error instanceof CallError)) throw error; // else the next turn asks again
    }
  }
}
