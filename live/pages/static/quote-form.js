/**
 * Shipping, tax and duty: asked for an address, and shown before anybody pays.
 *
 * Always: what is shown is what the server quoted; a change of what it depends on takes it away.
 * Loaded only where the shop quotes (`data-quotes`; sheet.js).
 */

import { CheckoutForm } from "./checkout-form.js";
import { CallError } from "./client.js";
import { h, setText } from "./dom.js";
import { TEXTS } from "./quote-texts.js";

// ISO 3166-1 alpha-2; the names are the browser's, in the page's language.
const COUNTRIES =
  "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW".split(
    " ",
  );
const PRICED = new Set(["country", "region", "postcode"]); // what a quote depends on
const PARTS = ["line1", "postcode", "city", "region", "country"];
const OPTIONAL = new Set(["region"]);
const TRANSLATED = { subtotal: "subtotal", duty: "duties", total: "total" }; // others are the shop's words

export class QuoteForm extends CheckoutForm {
  constructor(sheet) {
    super(sheet);
    for (const name of PARTS) this.kept[name] = "";
    this.names = ["name", "email", ...PARTS];
    this.of = ""; // which purchase the answer is for
    this.forget();
  }

  forget() {
    this.answer = null; // {totals, shipping, quote, expires_at}
    this.shipping = ""; // the choice
  }

  say(key, values) {
    const { text } = this.sheet.purchase;
    // Texts that pages without quotes do not carry.
    text.texts = { ...TEXTS.en, ...TEXTS[text.language], ...text.texts };
    return super.say(key, values);
  }

  /** What a parcel needs: a name, and every part of an address but the optional ones. */
  neededBy() {
    return ["name", ...PARTS.filter((name) => !OPTIONAL.has(name))];
  }

  build(items, total, currency) {
    this.currency = currency;
    return super.build(items, total, currency);
  }

  /** The first time after a form was built: an address in parts, and a place for the bill. */
  adapt() {
    const address = this.form.querySelector('[data-field="address"]');
    if (address) {
      address.replaceWith(...this.addressFields());
      this.form.querySelector(".pay-line").before(this.bill());
      this.sayPrice();
    }
    super.adapt();
  }

  addressFields() {
    const street = this.field("line1", "your_address", { autocomplete: "address-line1" });
    street.style.gridColumn = "1 / -1"; // of these pages alone, so not in the style sheet of all
    return [
      street,
      this.field("postcode", "your_postcode", { autocomplete: "postal-code", maxlength: "64" }),
      this.field("city", "your_city", { autocomplete: "address-level2" }),
      this.field("region", "your_region", { autocomplete: "address-level1", maxlength: "64" }),
      this.field("country", "your_country", { autocomplete: "country" }, "select", this.countries()),
    ];
  }

  countries() {
    const { language } = this.sheet.purchase.text;
    const names = new Intl.DisplayNames([language], { type: "region" });
    const rows = COUNTRIES.map((code) => [names.of(code), code]);
    rows.sort(([one], [other]) => one.localeCompare(other, language));
    return [h("option", { value: "" }), ...rows.map(([name, value]) => h("option", { value }, name))];
  }

  contact() {
    return { ...this.typed(["name", "email"]), address: this.typed(PARTS) };
  }

  /** The bill's place, empty as long as there is none. */
  bill() {
    if (this.of !== this.purchased() || this.over) this.forget();
    this.fault = h("div", { role: "alert" });
    this.ways = h("div");
    this.sums = h("div", { "aria-live": "polite" });
    this.box = h("div", { class: "checkout", id: "quote" }, this.fault, this.ways, this.sums);
    this.drawBill();
    return this.box;
  }

  /** Whether the quote has ended. */
  get over() {
    return this.answer?.expires_at <= this.sheet.purchase.viewer.clock.now();
  }

  purchased() {
    const { hold, offer, qty } = this.sheet.purchase.view;
    return hold || `${offer} ${qty}`;
  }

  /** Something was typed or chosen. */
  keep(box) {
    const chosen = box.name === "shipping";
    if (chosen) this.shipping = box.value;
    else if (PRICED.has(box.name)) this.forget();
    if (chosen || PRICED.has(box.name)) this.drawBill(chosen);
    super.keep(box);
    this.sayPrice();
  }

  /** `kept`: the choices stay as they are, with their focus. */
  drawBill(kept = false) {
    this.fault.replaceChildren();
    if (!kept) this.ways.replaceChildren(...this.offered());
    this.sums.replaceChildren(...this.lines().map((line) => this.line(line)));
  }

  offered() {
    const ways = this.answer?.shipping || [];
    if (!ways.length) return [];
    const options = ways.map(({ id, label, amount_minor, days }) => {
      const price = this.sheet.money(amount_minor, this.currency);
      const words = h("span", {}, h("bdi", {}, label), ` · ${price} · `, this.say("within_days", { n: days }));
      const box = h("input", { type: "radio", name: "shipping", value: id, checked: id === this.shipping });
      return h("label", { class: "choice" }, box, words);
    });
    return [h("fieldset", {}, h("legend", {}, this.say("shipping")), ...options)];
  }

  /** The bill with the choice that was made: it differs in two lines from the one with the first. */
  lines() {
    if (!this.answer) return [];
    const { totals, shipping } = this.answer;
    const chosen = shipping.find(({ id }) => id === this.shipping);
    const more = chosen ? chosen.amount_minor - shipping[0].amount_minor : 0;
    return totals.map((line) => {
      if (line.type === "shipping") return { ...line, label: chosen.label, amount_minor: chosen.amount_minor };
      return line.type === "total" ? { ...line, amount_minor: line.amount_minor + more } : line;
    });
  }

  line({ type, label, amount_minor: amount, inclusive }) {
    const name = TRANSLATED[type] ? this.say(TRANSLATED[type]) : label;
    const words = inclusive ? this.say("included", { name }) : name;
    return h("p", { class: "total" }, h("bdi", {}, words), h("strong", {}, this.sheet.money(amount, this.currency)));
  }

  /** The sum, as far as it is known. */
  payText() {
    const total = this.lines().at(-1);
    if (!total) return this.say("show_total");
    return this.say("pay", { amount: this.sheet.money(total.amount_minor, this.currency) });
  }

  sayPrice() {
    setText(this.form.querySelector("#pay"), this.payText());
  }

  async ask(contact) {
    const { purchase } = this.sheet;
    const { hold, offer, qty } = purchase.view;
    const of = this.purchased();
    const request = { ...(hold ? { hold } : { offer, qty }), contact };
    try {
      const answer = await purchase.viewer.connection.call("order.quote", request);
      if (purchase.view && this.purchased() === of && same(this.contact(), contact)) this.take(answer, of);
    } catch (error) {
      const words = this.say(...purchase.words(error));
      this.fault.replaceChildren(h("p", { class: "alert" }, words));
    }
  }

  take(answer, of) {
    this.answer = answer;
    this.of = of;
    this.shipping = answer.shipping[0]?.id || "";
    this.drawBill();
    this.sayPrice();
    this.box.scrollIntoView({ block: "start" });
  }

  /** First the bill, then what it says. */
  pay(form) {
    if (!this.answer || this.over) return this.ask(form.contact);
    const { quote } = this.answer;
    super.pay({ ...form, quote: this.shipping ? { quote, shipping: this.shipping } : { quote } });
  }
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
