/**
 * Buying: a press on Buy, the hold with its timer, checkout, and each way in which it can end.
 *
 * Always: one wish has one key; a repeat after silence carries the same key, so nothing is held or
 * paid twice. What the server has not said is never shown as done.
 */

import { CallError, newKey, sleep } from "./client.js";
import { byId, setHidden, setText, toast } from "./dom.js";
import { formatRemaining } from "./clock.js";
import { SheetView } from "./sheet.js";

const POLLS_MAX = 10;
const POLL_MS = 1_500;
const DENIED = 103;
const UNKNOWN = 1404;
const BUSY = 111;

// What nothing else may push aside: somebody is typing or paying there.
const BUSY_VIEWS = new Set(["hold", "direct", "paying", "action"]);
// Outcomes of a checkout that have a page of the sheet of their own.
const ENDINGS = new Set(["confirmed", "processing", "hold_lost", "rejected", "expired"]);

export class Purchase {
  constructor(viewer) {
    this.viewer = viewer;
    this.busy = new Set(); // offers with a request on its way
    this.view = null; // {kind, hold, offer, qty, order, request, action, alert}
    this.sheet = new SheetView(this);
    byId("bag").addEventListener("click", () => this.openBag());
  }

  get text() {
    return this.viewer.text;
  }

  get model() {
    return this.viewer.model;
  }

  say(key, values) {
    toast(this.text.say(key, values));
  }

  async buy(id, qty) {
    const offer = this.model.offers.get(id);
    if (offer.left === 0 && offer.waitlist) return this.joinWaitlist(id, qty);
    if (offer.mode === "first_paid") return this.show({ kind: "direct", offer: id, qty });
    const answer = await this.ask(id, "offer.hold", { offer: id, qty, key: newKey() });
    if (!answer) return;
    if (answer.outcome === "held") this.takeHeld(answer);
    else this.refused(answer);
  }

  takeHeld({ hold, offer, qty, price_minor, currency, expires_at, left }) {
    const items = [{ offer, qty, price_minor }];
    this.model.takeHold({ hold, items, currency, state: "held", expires_at });
    if (left !== undefined) this.model.offers.get(offer).left = left;
    this.viewer.draw(["me", "offers"]);
    this.show({ kind: "hold", hold });
  }

  refused({ outcome, offer, left }) {
    const known = this.model.offers.get(offer);
    if (known && left !== undefined) known.left = left;
    this.viewer.draw(["offers"]);
    if (outcome === "sold_out" && left > 0) this.say("say_only_left", { n: left });
    else this.say(`say_${outcome}`);
  }

  async joinWaitlist(id, qty) {
    const key = newKey();
    const answer = await this.ask(id, "waitlist.join", { offer: id, qty, key });
    if (!answer) return;
    if (answer.outcome === "waitlisted") {
      this.model.waiting.set(id, { offer: id, qty, key, position: answer.position });
      this.viewer.draw(["offers"]);
    } else if (answer.outcome === "held") this.takeHeld(this.heldFromWaitlist(id, qty, key));
    else this.say(`say_${answer.outcome}`);
  }

  /** A unit came back just then. The answer names no deadline; the offer's hold time is close. */
  heldFromWaitlist(id, qty, key) {
    const { price_minor, currency, hold_seconds: seconds } = this.model.offers.get(id);
    const expires_at = this.viewer.clock.now() + seconds * 1000;
    return { hold: key, offer: id, qty, price_minor, currency, expires_at };
  }

  async leaveWaitlist(id) {
    const answer = await this.ask(id, "waitlist.leave", { offer: id });
    if (!answer) return;
    this.model.waiting.delete(id);
    this.viewer.draw(["offers"]);
    this.say("say_left_waitlist");
  }

  async release(hold) {
    const answer = await this.ask(hold, "hold.release", { hold });
    if (!answer) return;
    this.model.holds.delete(hold);
    this.close();
    this.say("gave_back");
  }

  /** Call with repeats; failures are said in words and give null. */
  async ask(id, method, data) {
    if (this.busy.has(id)) return null;
    this.busy.add(id);
    this.viewer.draw(["offers"]);
    try {
      return await this.viewer.connection.call(method, data);
    } catch (error) {
      this.explain(error);
      return null;
    } finally {
      this.busy.delete(id);
      this.viewer.draw(["offers"]);
    }
  }

  explain(error) {
    if (!(error instanceof CallError)) throw error;
    if (error.code === DENIED || error.code === 101) this.say("say_sign_in");
    else if (error.code === BUSY) this.say("say_busy");
    else if (error.temporary) this.say("say_unknown");
    else this.say("say_failed", { reason: error.message });
  }

  /** Pay for the hold on show, or for a first-paid offer: the form gives provider and contact. */
  async pay(form) {
    const { hold, offer, qty } = this.view;
    const request = { provider: form.provider, key: newKey() };
    if (form.token) request.token = form.token;
    if (Object.keys(form.contact).length) request.contact = form.contact;
    Object.assign(request, hold ? { hold } : { offer, qty });
    await this.checkout(request);
  }

  async checkout(request) {
    const hold = request.hold || request.key;
    this.show({ ...this.view, kind: "paying", request });
    try {
      const answer = await this.viewer.connection.call("hold.checkout", request);
      this.settled(answer, request);
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (error.temporary) return this.awaitOrder(hold);
      this.show({ ...this.view, kind: request.hold ? "hold" : "direct" });
      this.explain(error);
    }
  }

  settled(answer, request) {
    const hold = answer.hold || request.hold || request.key;
    const { outcome, order, action } = answer;
    if (order && typeof order === "object") this.model.takeOrder(order, Infinity);
    if (this.isConfirmed(hold)) return; // the event came before the answer
    if (outcome === "action_required") this.show({ kind: "action", hold, action, request });
    else if (outcome === "declined") this.declined(request);
    else if (outcome === "processing") this.awaitOrder(hold);
    else if (outcome.endsWith("released")) this.show({ kind: "expired", hold });
    else if (ENDINGS.has(outcome)) this.show({ kind: outcome, hold, order });
    else {
      this.close();
      this.refused({ ...answer, offer: answer.offer || request.offer });
    }
    if (["expired", "hold_lost"].includes(this.view?.kind)) this.model.holds.delete(hold);
    this.viewer.draw(["me", "offers"]);
  }

  declined(request) {
    if (request.hold) this.show({ kind: "hold", hold: request.hold, alert: "declined" });
    else this.show({ kind: "direct", offer: request.offer, qty: request.qty, alert: "declined" });
  }

  isConfirmed(hold) {
    return this.view?.kind === "confirmed" && this.view.hold === hold;
  }

  /** The answer is still to come: the event tells, and asking from time to time does too. */
  async awaitOrder(hold) {
    this.show({ kind: "processing", hold });
    for (let i = 1; i <= POLLS_MAX; i += 1) {
      await sleep(POLL_MS * i);
      if (this.view?.kind !== "processing" || this.view.hold !== hold) return;
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
      if (error.code !== UNKNOWN || this.model.holds.has(hold)) return false;
      this.show({ kind: "expired", hold });
      return true;
    }
  }

  ordered(order) {
    const kind = order.state === "rejected" ? "rejected" : "confirmed";
    if (order.state === "cancelled") return this.say("order_cancelled");
    this.show({ kind, hold: order.hold, order });
  }

  /** An event on the personal channel, already folded into the model. */
  heard(event) {
    const hold = event.hold?.hold || event.order?.hold || event.hold;
    const mine = this.view?.hold === hold;
    if (event.type === "hold.granted") this.granted(event.hold);
    else if (event.type === "hold.expired") this.expired(hold, mine);
    else if (event.type === "payment.failed" && mine) this.paymentFailed(hold);
    else if (event.type === "order.confirmed") this.confirmed(event.order, mine);
    else if (event.type === "order.rejected") this.show({ kind: "rejected", hold, order: event.order });
    else if (event.type === "order.cancelled") this.say("order_cancelled");
    else if (event.type === "order.refunded") this.say("order_refunded");
    this.viewer.draw(["me", "offers"]);
  }

  granted({ hold }) {
    if (!this.model.holds.has(hold)) return; // replayed, and over since
    if (BUSY_VIEWS.has(this.view?.kind)) this.say("granted_title"); // the bag leads to it afterwards
    else this.show({ kind: "hold", hold, granted: true });
    setText(byId("news"), this.text.say("granted_title"));
  }

  expired(hold, mine) {
    if (mine && this.view.kind !== "confirmed") this.show({ kind: "expired", hold });
    else if (!mine) this.say("expired_title");
  }

  paymentFailed(hold) {
    if (this.model.holds.has(hold)) this.show({ kind: "hold", hold, alert: "declined" });
    else this.show({ kind: "hold_lost", hold });
  }

  confirmed(order, mine) {
    if (mine) this.show({ kind: "confirmed", hold: order.hold, order });
    else this.say("confirmed_text");
  }

  /** After a reconnect: what happened to the hold on show while nobody was listening? */
  resume() {
    const hold = this.view?.hold;
    if (!hold) return;
    const order = [...this.model.orders.values()].find((one) => one.hold === hold);
    if (order) this.ordered(order);
    else if (this.view.kind === "hold" && !this.model.holds.has(hold)) this.lookUp(hold);
    else if (this.view.kind === "processing") this.lookUp(hold);
  }

  show(view) {
    this.view = view;
    this.sheet.draw(view);
    this.render();
  }

  close() {
    this.view = null;
    this.sheet.hide();
    this.render();
  }

  redraw() {
    if (this.view) this.sheet.draw(this.view);
    this.render();
  }

  openBag() {
    const hold = this.nextHold();
    if (hold?.state === "paying") this.awaitOrder(hold.hold);
    else this.show(hold ? { kind: "hold", hold: hold.hold } : { kind: "orders" });
  }

  nextHold() {
    return [...this.model.holds.values()].sort((a, b) => a.expires_at - b.expires_at)[0];
  }

  /** The bag: a way back to what is held or bought. */
  render() {
    const bag = byId("bag");
    const hold = this.nextHold();
    const orders = this.model.orders.size;
    setHidden(bag, Boolean(this.view) || (!hold && !orders));
    bag.dataset.urgent = Boolean(hold);
    if (hold) setText(bag, this.text.say("checkout", { time: this.remaining(hold) }));
    else setText(bag, this.text.say("my_orders", { n: orders }));
  }

  remaining(hold) {
    return formatRemaining(hold.expires_at - this.viewer.clock.now());
  }

  tick() {
    this.render();
    this.sheet.tick();
  }
}
