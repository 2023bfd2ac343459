/** The sheet that rises from below: a hold with its timer, the checkout form, how it ended. */

import { byId, h, picture, setText } from "./dom.js";
import { formatMoney } from "./money.js";

const TOKENS = ["tok_approve", "tok_decline", "tok_async", "tok_action_required"];
const URGENT_MS = 15_000;

export class SheetView {
  constructor(purchase) {
    this.purchase = purchase;
    this.dialog = byId("sheet");
    this.kept = { provider: "", token: TOKENS[0], name: "", email: "" }; // what was typed survives a redraw
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      purchase.close();
    });
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) purchase.close();
    });
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
    const parts = this[view.kind](view).filter(Boolean);
    this.dialog.dataset.kind = view.kind;
    byId("sheet-body").replaceChildren(...parts, this.shut());
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.querySelector("[data-focus]")?.focus();
    this.tick();
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

  button(key, act, kind = "quiet", values = {}) {
    return h("button", { type: "button", class: kind, onclick: act }, this.say(key, values));
  }

  closing(key = "later") {
    return this.button(key, () => this.purchase.close());
  }

  hold({ hold: key, granted, alert }) {
    const hold = this.purchase.model.holds.get(key);
    if (!hold) return this.expired();
    const total = hold.items.reduce((sum, item) => sum + item.price_minor * item.qty, 0);
    return [
      this.title(granted ? "granted_title" : "yours_title"),
      alert ? h("p", { class: "alert", role: "alert" }, this.say("declined_text")) : null,
      h(
        "p",
        { class: "timer", role: "timer" },
        h("span", {}, this.say("yours_for")),
        h("strong", { id: "hold-timer" }),
      ),
      this.items(hold.items, hold.currency),
      this.form(total, hold.currency),
      this.button("give_back", () => this.purchase.release(key), "give-back"),
    ];
  }

  direct({ offer: id, qty, alert }) {
    const offer = this.purchase.model.offers.get(id);
    return [
      this.title("direct_title"),
      alert ? h("p", { class: "alert", role: "alert" }, this.say("declined_direct")) : null,
      this.line("direct_hint"),
      this.items([{ offer: id, qty, price_minor: offer.price_minor }], offer.currency),
      this.form(offer.price_minor * qty, offer.currency),
    ];
  }

  items(items, currency) {
    const rows = items.map(({ offer: id, qty, price_minor: price }) => {
      const offer = this.purchase.model.offers.get(id);
      const name = offer?.title || id;
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

  form(total, currency) {
    const { kept } = this;
    const providers = document.body.dataset.providers.split(" ");
    kept.provider ||= providers[0];
    const keep = (event) => {
      kept[event.target.name] = event.target.value;
      this.showTokens();
    };
    const form = h(
      "form",
      { class: "checkout", oninput: keep, onsubmit: (event) => this.submit(event) },
      this.choices("provider", "pay_with", providers, (name) => this.say(`pay_${name}`)),
      this.choices("token", "card", TOKENS, (name) => this.say(name)),
      h(
        "div",
        { class: "contact" },
        this.field("name", "your_name", { autocomplete: "name" }),
        this.field("email", "your_email", { autocomplete: "email", type: "email" }),
      ),
      h(
        "div",
        { class: "pay-line" },
        h("button", { class: "primary", id: "pay" }, this.say("pay", { amount: this.money(total, currency) })),
      ),
    );
    queueMicrotask(() => this.showTokens());
    return form;
  }

  choices(name, key, values, label) {
    const options = values.map((value) =>
      h(
        "label",
        { class: "choice" },
        h("input", { type: "radio", name, value, checked: this.kept[name] === value }),
        h("span", {}, label(value)),
      ),
    );
    return h("fieldset", { "data-field": name, hidden: values.length < 2 }, h("legend", {}, this.say(key)), ...options);
  }

  /** The test card's behaviour is asked for the test card only. */
  showTokens() {
    const box = this.dialog.querySelector('[data-field="token"]');
    if (box) box.hidden = this.kept.provider !== "sandbox";
  }

  field(name, key, attributes) {
    return h(
      "label",
      { class: "field" },
      h("span", {}, this.say(key)),
      h("input", { name, value: this.kept[name] || null, maxlength: "200", dir: "auto", ...attributes }),
    );
  }

  submit(event) {
    event.preventDefault();
    const { provider, token, name, email } = this.kept;
    const contact = {};
    if (name.trim()) contact.name = name.trim();
    if (email.trim()) contact.email = email.trim();
    this.purchase.pay({ provider, token: provider === "sandbox" ? token : "", contact });
  }

  paying() {
    return [this.title("paying"), h("div", { class: "spinner", "aria-hidden": "true" })];
  }

  processing() {
    return [
      this.title("processing_title"),
      h("div", { class: "spinner", "aria-hidden": "true" }),
      this.line("processing_text"),
      this.closing(),
    ];
  }

  action({ action, request }) {
    const target = action?.kind === "redirect" && /^https?:\/\//.test(action.value) ? action.value : null;
    return [
      this.title("action_title"),
      this.line("action_text"),
      target
        ? h("a", { class: "button primary", href: target, target: "_blank", rel: "noopener noreferrer" }, this.say("action_open"))
        : null,
      this.button("action_done", () => this.purchase.checkout(request), target ? "quiet" : "primary"),
    ];
  }

  confirmed({ order }) {
    const full = typeof order === "object" ? order : this.purchase.model.orders.get(order);
    return [
      h("div", { class: "tick", "aria-hidden": "true" }),
      this.title("confirmed_title"),
      this.line("confirmed_text"),
      full ? this.items(full.items, full.currency) : null,
      full ? h("p", { class: "fine" }, this.say("order_number", { id: full.order.slice(0, 8) })) : null,
      this.button("later", () => this.purchase.close(), "primary"),
    ];
  }

  expired() {
    return [this.title("expired_title"), this.line("expired_text"), this.closing("close")];
  }

  hold_lost() {
    return [this.title("hold_lost_title"), this.line("hold_lost_text"), this.closing("close")];
  }

  rejected() {
    return [this.title("rejected_title"), this.line("rejected_text"), this.closing("close")];
  }

  orders() {
    const orders = [...this.purchase.model.orders.values()];
    return [
      this.title("your_orders"),
      ...orders.map((order) => this.items(order.items, order.currency)),
      this.closing("close"),
    ];
  }

  tick() {
    const timer = byId("hold-timer");
    const hold = this.purchase.model.holds.get(this.purchase.view?.hold);
    if (!timer || !hold) return;
    const rest = hold.expires_at - this.purchase.viewer.clock.now();
    setText(timer, this.purchase.remaining(hold));
    timer.dataset.urgent = rest < URGENT_MS;
    byId("pay").disabled = rest <= 0;
  }
}
