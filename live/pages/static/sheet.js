/** The sheet that rises from below: a hold with its timer, the checkout form, how it ended. */

import { CheckoutForm } from "./checkout-form.js";
import { byId, h, picture, setDisabled, setText } from "./dom.js";
import { formatMoney } from "./money.js";

const Form = document.body.dataset.quotes ? (await import("./quote-form.js")).QuoteForm : CheckoutForm;
const URGENT_MS = 15_000;
const ORDER_ID_CHARS = 8; // enough to tell one's orders apart, and to read out on the phone

export class SheetView {
  constructor(purchase) {
    this.purchase = purchase;
    this.dialog = byId("sheet");
    this.form = new Form(this);
    this.mine = null; // the buyer's orders, once they were opened
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      purchase.close();
    });
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) purchase.close();
    });
  }

  get model() {
    return this.purchase.model;
  }

  say(key, values) {
    return this.purchase.text.say(key, values);
  }

  money(minor, currency) {
    return formatMoney(minor, currency, this.purchase.text.language);
  }

  hide() {
    this.dialog.close();
  }

  draw(view) {
    const drawer = view.kind in this ? this : this.mine;
    const parts = drawer[view.kind](view).filter(Boolean);
    this.dialog.dataset.kind = view.kind;
    byId("sheet-body").replaceChildren(...parts, this.shut());
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.querySelector("[data-focus]")?.focus();
    this.tick();
  }

  /** Few look at their orders during a show: what that takes is read when they do. */
  async openOrders() {
    const [{ MyOrders }] = await Promise.all([import("./my-orders.js"), this.purchase.text.learn("orders")]);
    this.mine ??= new MyOrders(this);
    return this.mine.open();
  }

  shut() {
    const label = this.say("close");
    const act = () => this.purchase.close();
    return h("button", { type: "button", class: "quiet shut", "aria-label": label, title: label, onclick: act }, "✕");
  }

  title(key) {
    return h("h2", { id: "sheet-title", tabindex: "-1", "data-focus": true }, this.say(key));
  }

  line(key, values) {
    return h("p", {}, this.say(key, values));
  }

  fine(key, values) {
    return h("p", { class: "fine" }, this.say(key, values));
  }

  alert(words) {
    return words ? h("p", { class: "alert", role: "alert" }, this.say(...words)) : null;
  }

  button(key, act, kind = "quiet", values = {}) {
    return h("button", { type: "button", class: kind, onclick: act }, this.say(key, values));
  }

  closing(key, kind) {
    return this.button(key, () => this.purchase.close(), kind);
  }

  hold({ hold: key, granted, alert }) {
    const hold = this.model.holds.get(key);
    if (!hold) return this.expired(this.purchase.view);
    return [
      this.title(granted ? "granted_title" : "yours_title"),
      this.rehearsed(),
      this.alert(alert),
      h(
        "p",
        { class: "timer", role: "timer" },
        h("span", {}, this.say("yours_for")),
        h("strong", { id: "hold-timer" }),
      ),
      this.items(hold.items, hold.currency),
      this.form.build(hold.items, sum(hold.items), hold.currency),
      this.button("give_back", () => this.purchase.release(key), "give-back"),
    ];
  }

  direct({ offer: id, qty, alert }) {
    const offer = this.model.offers.get(id);
    const items = [{ offer: id, qty, price_minor: offer.price_minor }];
    return [
      this.title("direct_title"),
      this.rehearsed(),
      this.alert(alert),
      this.line("direct_hint"),
      this.items(items, offer.currency),
      this.form.build(items, sum(items), offer.currency),
    ];
  }

  /** Whoever tries the show out must not believe that they buy. */
  rehearsed() {
    return this.model.show.status === "rehearsal" ? h("p", { class: "notice" }, this.say("rehearsed_text")) : null;
  }

  items(items, currency) {
    const rows = items.map(({ offer: id, qty, price_minor: price, title }) => {
      const offer = this.model.offers.get(id);
      const name = offer?.title || title || id; // of an old offer the order itself has the title
      return h(
        "li",
        {},
        picture(offer?.image_url, name),
        h("span", {}, h("bdi", {}, name), h("b", {}, ` ×\u00a0${this.purchase.text.number.format(qty)}`)),
        h("strong", {}, this.money(price * qty, currency)),
      );
    });
    return h("ul", { class: "items" }, ...rows);
  }

  total(minor, currency, key = "total") {
    return h("p", { class: "total" }, h("span", {}, this.say(key)), h("strong", {}, this.money(minor, currency)));
  }

  paying() {
    return [this.title("paying"), h("div", { class: "spinner", "aria-hidden": "true" })];
  }

  processing() {
    return [
      this.title("processing_title"),
      h("div", { class: "spinner", "aria-hidden": "true" }),
      this.line("processing_text"),
      this.closing("later"),
    ];
  }

  action({ hold, action, request }) {
    const target = action?.kind === "redirect" && /^https?:\/\//.test(action.value) ? action.value : null;
    const held = this.model.holds.has(hold);
    return [
      this.title("action_title"),
      this.line("action_text"),
      target
        ? h("a", { class: "button primary", href: target, target: "_blank", rel: "noopener noreferrer" }, this.say("action_open"))
        : null,
      this.button("action_done", () => this.purchase.checkout.send(request), target ? "quiet" : "primary"),
      held ? this.button("action_cancel", () => this.purchase.release(hold), "give-back") : null,
      held ? this.fine("action_cancel_hint") : null,
    ];
  }

  confirmed({ order }) {
    const known = this.model.orders.get(typeof order === "object" ? order?.order : order) || order;
    const full = typeof known === "object" ? known : null;
    const rehearsed = full?.rehearsed;
    return [
      h("div", { class: "tick", "aria-hidden": "true" }),
      this.title(rehearsed ? "rehearsed_title" : "confirmed_title"),
      this.line(rehearsed ? "rehearsed_text" : "confirmed_text"),
      full ? this.items(full.items, full.currency) : null,
      full ? this.total(full.total_minor, full.currency) : null,
      full && !rehearsed ? this.number(full) : null,
      rehearsed ? null : this.fine("next_text"),
      this.closing("later", "primary"),
    ];
  }

  number({ order }) {
    const id = h("bdi", {}, order.slice(0, ORDER_ID_CHARS));
    return h("p", { class: "number" }, h("span", {}, this.say("order_number")), h("strong", {}, id));
  }

  expired(view) {
    return [this.title("expired_title"), this.line("expired_text"), ...this.next(view)];
  }

  hold_lost(view) {
    return [this.title("hold_lost_title"), this.line("hold_lost_text"), ...this.next(view)];
  }

  rejected(view) {
    return [this.title("rejected_title"), this.line("rejected_text"), ...this.next(view)];
  }

  /** After a bad end: the same again, or a place in line, where the offer still allows it. */
  next({ items, order }) {
    const [item] = items || order?.items || [];
    const offer = item && this.model.offers.get(item.offer);
    const waits = this.model.waiting.has(item?.offer);
    const room = offer && this.model.unitsOf(offer.id) + item.qty <= offer.per_buyer_limit;
    if (!offer || offer.phase !== "open" || !room || waits) return [this.closing("close")];
    const key = offer.left >= item.qty ? "try_again" : offer.waitlist && offer.left === 0 ? "join_waitlist" : "";
    if (!key) return [this.closing("close")];
    const again = () => {
      this.purchase.close();
      this.purchase.buy(offer.id, item.qty);
    };
    return [this.button(key, again, "primary"), this.closing("close")];
  }

  tick() {
    const timer = byId("hold-timer");
    const hold = this.model.holds.get(this.purchase.view?.hold);
    if (!timer || !hold) return;
    const rest = hold.expires_at - this.purchase.viewer.clock.now();
    setText(timer, this.purchase.remaining(hold));
    timer.dataset.urgent = rest < URGENT_MS;
    setDisabled(byId("pay"), rest <= 0);
  }
}

const sum = (items) => items.reduce((total, item) => total + item.price_minor * item.qty, 0);
