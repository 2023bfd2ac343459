/**
 * Buying: a press on Buy, the hold with its timer, and each way in which it can end.
 *
 * Always: one wish has one key; a repeat after silence carries the same key, so nothing is held or
 * paid twice. What the server has not said is never shown as done.
 */

import { Checkout } from "./checkout.js";
import { CallError, newKey } from "./client.js";
import { formatRemaining } from "./clock.js";
import { byId, setHidden, setText, toast } from "./dom.js";
import { SheetView } from "./sheet.js";
import { Waitlist } from "./waitlist.js";

const SIGN_IN = new Set([101, 103]);
const BUSY = 111;

// What nothing else may push aside: somebody is typing or paying there.
const BUSY_VIEWS = new Set(["hold", "direct", "paying", "action"]);

/** What has the keyboard, if anything: the page itself is no place to return to. */
const focused = () => (document.activeElement === document.body ? null : document.activeElement);

export class Purchase {
  constructor(viewer) {
    this.viewer = viewer;
    this.busy = new Set(); // offers with a request on its way
    this.view = null; // {kind, hold, offer, qty, items, order, request, action, alert}
    this.opener = null; // what had the focus before the sheet
    this.pressed = null; // the button of a wish under way: not every browser focuses what is clicked
    this.sheet = new SheetView(this);
    this.checkout = new Checkout(this);
    this.waitlist = new Waitlist(this);
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
    if (offer.left === 0 && offer.waitlist) return this.waitlist.join(id, qty);
    if (offer.mode === "first_paid") return this.show({ kind: "direct", offer: id, qty });
    const answer = await this.ask(id, "offer.hold", { offer: id, qty, key: newKey() });
    if (!answer) return;
    if (answer.outcome === "held") this.takeHeld(answer);
    else this.refused(answer, qty);
  }

  takeHeld({ hold, offer, qty, price_minor, currency, expires_at, left }) {
    const items = [{ offer, qty, price_minor }];
    this.model.takeHold({ hold, items, currency, state: "held", expires_at });
    if (left !== undefined) this.model.offers.get(offer).left = left;
    this.viewer.draw(["me", "offers"]);
    this.show({ kind: "hold", hold });
  }

  refused({ outcome, offer, left }, qty) {
    const known = this.model.offers.get(offer);
    if (known && left !== undefined) known.left = left;
    this.viewer.draw(["offers"]);
    if (outcome === "sold_out" && left > 0) return this.say("say_only_left", { n: left });
    // Below the limit it is the number of holds and orders that the server keeps for one buyer.
    const room = known && this.model.unitsOf(offer) + qty <= known.per_buyer_limit;
    this.say(outcome === "limit_reached" && room ? "say_too_many" : `say_${outcome}`);
  }

  async release(hold) {
    const answer = await this.ask(hold, "hold.release", { hold });
    if (!answer) return;
    this.model.holds.delete(hold);
    this.checkout.forget(hold);
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
      this.say(...this.words(error));
      return null;
    } finally {
      this.busy.delete(id);
      this.viewer.draw(["offers"]);
    }
  }

  /** A failed call as a text's key and values. */
  words(error) {
    if (!(error instanceof CallError)) throw error;
    if (SIGN_IN.has(error.code)) return ["say_sign_in"];
    if (error.code === BUSY) return ["say_busy"];
    if (error.temporary) return ["say_unknown"];
    return ["say_failed", { reason: error.message }];
  }

  isConfirmed(hold) {
    return this.view?.kind === "confirmed" && this.view.hold === hold;
  }

  /** An event on the personal channel, already folded into the model. */
  heard(event) {
    const hold = event.hold?.hold || event.order?.hold || event.hold;
    const mine = this.view?.hold === hold;
    if (event.type !== "hold.granted") this.checkout.forget(hold);
    if (event.type === "hold.granted") this.granted(event.hold);
    else if (event.type === "hold.expired") this.expired(hold, mine);
    else if (event.type === "payment.failed") this.paymentFailed(hold, mine);
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

  paymentFailed(hold, mine) {
    this.checkout.mark(hold, "held");
    if (!mine) return this.model.holds.has(hold) ? this.say("declined_text") : undefined;
    const { request } = this.view;
    if (this.model.holds.has(hold)) this.show({ kind: "hold", hold, alert: ["declined_text"] });
    else if (request?.offer) this.checkout.back(request, ["declined_direct"]);
    else this.show({ kind: "hold_lost", hold });
  }

  confirmed(order, mine) {
    if (mine) this.show({ kind: "confirmed", hold: order.hold, order });
    else this.say("confirmed_text");
  }

  /** After a reconnect: what happened to the hold on show while nobody was listening? */
  resume() {
    this.checkout.prune();
    const hold = this.view?.hold;
    if (!hold) return;
    const order = [...this.model.orders.values()].find((one) => one.hold === hold);
    if (order) this.checkout.ordered(order);
    else if (this.view.kind === "hold" && !this.model.holds.has(hold)) this.checkout.lookUp(hold);
    else if (this.view.kind === "processing") this.checkout.lookUp(hold);
  }

  show(view) {
    if (!this.view) this.opener = focused() || this.pressed;
    this.pressed = null;
    // What a hold had in it is asked for after its end, too: to try again.
    const before = this.view && this.view.hold === view.hold ? this.view.items : undefined;
    this.view = { items: this.model.holds.get(view.hold)?.items || before, ...view };
    this.sheet.draw(this.view);
    this.render();
  }

  close() {
    this.view = null;
    this.sheet.hide();
    this.render();
    this.viewer.offers.render();
    // Where one came from, if that is still there; a keyboard must not start again at the top.
    const there = [this.opener, byId("bag"), byId("offers-title")].find((one) => one?.checkVisibility());
    (there || byId("offers-title")).focus();
  }

  redraw() {
    if (this.view) this.sheet.draw(this.view);
    this.render();
  }

  openBag() {
    const hold = this.nextHold();
    const [action] = this.checkout.actions.keys();
    if (hold) this.openHold(hold);
    else if (action) this.checkout.resume(action);
    else this.sheet.openOrders().catch(() => this.say("say_busy")); // its module did not come
  }

  openHold({ hold, state }) {
    if (state === "paying") this.checkout.resume(hold);
    else this.show({ kind: "hold", hold });
  }

  nextHold() {
    return [...this.model.holds.values()].sort((a, b) => a.expires_at - b.expires_at)[0];
  }

  /** The bag: a way back to what is held or bought. */
  render() {
    const bag = byId("bag");
    const hold = this.nextHold();
    const [action] = this.checkout.actions.keys();
    const paying = hold?.state === "paying" ? hold.hold : !hold && action;
    const orders = this.model.orders.size;
    setHidden(bag, Boolean(this.view) || (!hold && !paying && !orders));
    bag.dataset.urgent = Boolean(hold || paying);
    if (paying) setText(bag, this.text.say(this.checkout.step(paying)));
    else if (hold) setText(bag, this.text.say("checkout", { time: this.remaining(hold) }));
    else setText(bag, this.text.say("my_orders", { n: orders }));
  }

  remaining(hold) {
    return formatRemaining(hold.expires_at - this.viewer.clock.now());
  }

  tick() {
    this.render();
    this.sheet.tick();
    this.waitlist.tick();
  }
}
