/**
 * Paying: the call and its repeats, what the bank asks of the buyer, and an answer that comes late.
 *
 * Always: a payment that waits for the buyer can be found again, after closing the sheet and after a
 * reload: its request, key included, and what to do are kept per hold until the hold has ended.
 */

import { CallError, newKey, sleep } from "./client.js";
import { tabStorage } from "./storage.js";

const POLLS_MAX = 10;
const POLL_MS = 1_500;
const KEPT_MAX = 10;
const UNKNOWN = 1404;
const STORAGE = `live:${document.body.dataset.show}:`;

// Outcomes of a checkout that have a page of the sheet of their own.
const ENDINGS = new Set(["confirmed", "processing", "hold_lost", "rejected", "expired"]);
const FAILED = new Set(["hold_lost", "rejected", "expired"]);

const read = (name, empty) => JSON.parse(tabStorage.get(STORAGE + name) || empty);
const write = (name, value) => tabStorage.set(STORAGE + name, JSON.stringify(value));

export class Checkout {
  constructor(purchase) {
    this.purchase = purchase;
    this.viewer = purchase.viewer;
    this.actions = new Map(read("actions", "[]")); // hold -> {request, action, items}
  }

  get model() {
    return this.viewer.model;
  }

  show(view) {
    this.purchase.show(view);
  }

  /** Pay for the hold on show, or for a first-paid offer: the form gives provider and contact. */
  async pay(form) {
    const { hold, offer, qty } = this.purchase.view;
    const request = { provider: form.provider, key: newKey() };
    if (form.token) request.token = form.token;
    if (Object.keys(form.contact).length) request.contact = form.contact;
    Object.assign(request, hold ? { hold } : { offer, qty }, form.quote);
    await this.send(request);
  }

  async send(request) {
    const hold = request.hold || request.key;
    const { view } = this.purchase;
    this.mark(hold, "paying");
    this.show({ ...view, kind: "paying", hold, request });
    try {
      this.settled(await this.viewer.connection.call("hold.checkout", request), request);
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (error.temporary) return this.awaitOrder(hold, request);
      this.back(request, this.purchase.words(error));
    }
  }

  /** Only a snapshot tells the state of a hold; in between this page knows what it asked for. */
  mark(hold, state) {
    const known = this.model.holds.get(hold);
    if (known) this.model.takeHold({ ...known, state });
  }

  /** To the form again, with words about what went wrong. */
  back({ hold, offer, qty }, alert) {
    this.mark(hold, "held");
    this.show(hold ? { kind: "hold", hold, alert } : { kind: "direct", offer, qty, alert });
  }

  settled(answer, request) {
    const hold = answer.hold || request.hold || request.key;
    const { outcome, order, action } = answer;
    if (order && typeof order === "object") this.model.takeOrder(order, Infinity);
    if (outcome !== "action_required") this.forget(hold);
    if (this.purchase.isConfirmed(hold)) return; // the event came before the answer
    if (outcome === "action_required") this.needAction(hold, { action, request });
    else if (outcome === "declined") this.back(request, [request.hold ? "declined_text" : "declined_direct"]);
    else if (outcome === "processing") this.awaitOrder(hold, request);
    else if (outcome.endsWith("released")) this.show({ kind: "expired", hold });
    else if (ENDINGS.has(outcome)) this.show({ kind: outcome, hold, order });
    else {
      this.purchase.close();
      this.purchase.refused({ ...answer, offer: answer.offer || request.offer }, request.qty);
    }
    if (FAILED.has(this.purchase.view?.kind)) this.model.holds.delete(hold);
    this.viewer.draw(["me", "offers"]);
  }

  /** The buyer must confirm at their bank; until then this is what there is to see of the hold. */
  needAction(hold, { action, request }) {
    const known = this.actions.get(hold);
    const saved = { action: action || known?.action, request };
    this.actions.set(hold, saved);
    write("actions", [...this.actions].slice(-KEPT_MAX));
    this.show({ kind: "action", hold, ...saved });
  }

  forget(hold) {
    if (this.actions.delete(hold)) write("actions", [...this.actions]);
  }

  /** After a snapshot: holds that ended meanwhile wait for no bank any more. */
  prune() {
    const ordered = new Set([...this.model.orders.values()].map(({ hold }) => hold));
    for (const [hold, { request }] of this.actions) {
      if (ordered.has(hold) || (request.hold && !this.model.holds.has(hold))) this.forget(hold);
    }
  }

  /** What there is to do about a payment under way. */
  step(hold) {
    return this.actions.has(hold) ? "confirm_payment" : "paying_hold";
  }

  /** Take up a payment again: what the bank asks for, or the wait for its answer. */
  resume(hold) {
    const saved = this.actions.get(hold);
    if (saved) this.show({ kind: "action", hold, ...saved });
    else this.awaitOrder(hold);
  }

  /** The answer is still to come: the event tells, and asking from time to time does too. */
  async awaitOrder(hold, request = null) {
    this.show({ kind: "processing", hold, request });
    for (let i = 1; i <= POLLS_MAX; i += 1) {
      await sleep(POLL_MS * i);
      if (this.purchase.view?.kind !== "processing" || this.purchase.view.hold !== hold) return;
      if (await this.lookUp(hold)) return;
    }
  }

  /** Ask what became of a hold. True when that is settled. */
  async lookUp(hold) {
    try {
      const order = await this.viewer.connection.call("order.get", { hold });
      this.model.takeOrder(order, Infinity);
      this.ordered(order);
      return true;
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      const direct = Boolean(this.purchase.view?.request?.offer); // nothing was held in the first place
      if (error.code !== UNKNOWN || direct || this.model.holds.has(hold)) return false;
      this.show({ kind: "expired", hold });
      return true;
    }
  }

  ordered(order) {
    this.forget(order.hold);
    if (order.state === "cancelled") return this.purchase.say("order_cancelled");
    this.show({ kind: order.state === "rejected" ? "rejected" : "confirmed", hold: order.hold, order });
  }
}
