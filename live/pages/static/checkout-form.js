/** The form of a checkout: how to pay, and where to send it where that is needed. */

import { h } from "./dom.js";

const TOKENS = ["tok_approve", "tok_decline", "tok_async", "tok_action_required"];
const NEEDED = { invoice: ["name", "address"] }; // what is paid on delivery must find its way

export class CheckoutForm {
  constructor(sheet) {
    this.sheet = sheet;
    // What was typed survives a redraw.
    this.kept = { provider: "", token: TOKENS[0], name: "", email: "", address: "" };
    this.names = ["name", "email", "address"];
  }

  say(key, values) {
    return this.sheet.say(key, values);
  }

  /** What this page can pay with, as far as it is open to this viewer and taken by show and offers. */
  ways(items) {
    const { show, offers, providers } = this.sheet.model;
    const lists = [show.providers, ...items.map(({ offer }) => offers.get(offer)?.providers)];
    const narrowings = lists.filter((list) => list?.length);
    const shop = document.body.dataset.providers.split(" ").filter(Boolean);
    return shop.filter((name) => providers.includes(name) && narrowings.every((list) => list.includes(name)));
  }

  build(items, total, currency) {
    const { kept } = this;
    const providers = this.ways(items);
    if (!providers.length) return h("p", { class: "notice" }, this.say("pay_nowhere"));
    if (!providers.includes(kept.provider)) kept.provider = providers[0];
    const amount = this.sheet.money(total, currency);
    this.form = h(
      "form",
      {
        class: "checkout",
        oninput: ({ target }) => this.keep(target),
        onsubmit: (event) => this.submit(event),
      },
      this.choices("provider", "pay_with", providers, (name) => this.say(`pay_${name}`)),
      this.choices("token", "card", TOKENS, (name) => this.say(name)),
      h(
        "div",
        { class: "contact" },
        this.field("name", "your_name", { autocomplete: "name" }),
        this.field("email", "your_email", { autocomplete: "email", type: "email" }),
        this.field("address", "your_address", { autocomplete: "street-address", rows: "2" }, "textarea"),
      ),
      h("div", { class: "pay-line" }, h("button", { class: "primary", id: "pay" }, this.say("pay", { amount }))),
    );
    this.adapt();
    return this.form;
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

  field(name, key, attributes, tag = "input", options = []) {
    const box = h(tag, { name, maxlength: "200", dir: "auto", ...attributes }, ...options);
    box.value = this.kept[name];
    // The browser's own bubble speaks its language, not the page's.
    box.addEventListener("invalid", () => box.setCustomValidity(this.say(box.value ? "field_wrong" : "field_needed")));
    const words = h("span", {}, this.say(key), " ", h("i", { class: "optional" }, this.say("field_optional")));
    return h("label", { class: "field", "data-field": name }, words, box);
  }

  /** Of a guest the shop knows nothing else: an order of real money needs a way to reach them. */
  needed(provider) {
    const unknown = this.sheet.purchase.viewer.visitor.isGuest && provider !== "sandbox";
    const guest = unknown ? ["email"] : [];
    return [...this.neededBy(provider), ...guest];
  }

  keep(box) {
    this.kept[box.name] = box.value;
    this.adapt();
  }

  /** The test card's behaviour is asked of the test card only, an address where one is needed. */
  adapt() {
    const { provider } = this.kept;
    const needed = this.needed(provider);
    const part = (name) => this.form.querySelector(`[data-field="${name}"]`) || {};
    part("token").hidden = provider !== "sandbox";
    part("address").hidden = !needed.includes("address");
    for (const name of this.names) {
      const box = this.form.elements[name];
      box.required = needed.includes(name);
      box.setCustomValidity(""); // a complaint of another way to pay must not stop this one
      part(name).querySelector(".optional").hidden = box.required;
    }
  }

  neededBy(provider) {
    return NEEDED[provider] || [];
  }

  contact() {
    return this.typed(NEEDED[this.kept.provider] ? this.names : this.names.slice(0, 2));
  }

  typed(names) {
    return Object.fromEntries(names.map((name) => [name, this.kept[name].trim()]).filter(([, value]) => value));
  }

  submit(event) {
    event.preventDefault();
    const { provider, token } = this.kept;
    const blank = this.needed(provider).find((name) => !this.kept[name].trim());
    if (blank) {
      this.form.elements[blank].setCustomValidity(this.say("field_needed")); // spaces are no name
      return this.form.reportValidity();
    }
    this.pay({ provider, token: provider === "sandbox" ? token : "", contact: this.contact() });
  }

  pay(form) {
    this.sheet.purchase.checkout.pay(form);
  }
}
