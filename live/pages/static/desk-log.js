/** The log of what hosts and moderators did, in words, the newest first. */

import { get } from "./api.js";
import { h } from "./dom.js";
import { moderationText, spanOf } from "./desk-feed.js";
import { formatMoney } from "./money.js";

const PAGE = 50;
const WORDS = {
  "show.create": "made the show",
  "show.patch": "changed the settings",
  "show.start": "went on air",
  "show.rehearse": "began a rehearsal",
  "show.pause": "paused the show",
  "show.resume": "went on with the show",
  "show.end": "ended the show",
  "show.run_order": "changed the run of show",
  "show.pin": "changed the pins",
  "show.announce": "changed the announcement",
  "offer.create": "prepared an offer",
  "offer.edit": "changed a prepared offer",
  "offer.open": "opened an offer",
  "offer.pause": "paused an offer",
  "offer.resume": "went on with an offer",
  "offer.close": "closed an offer",
  "offer.extend": "extended an offer",
  "offer.restock": "restocked an offer",
  "offer.sold_out": "marked an offer as sold out",
  "order.refund": "paid an order back",
  "order.refund.call_off": "called failed refunds off",
  "order.paid": "said that an invoice was paid",
  "order.cancel": "cancelled an order",
  "order.ship": "shipped an order",
  "order.shipment": "said what became of a parcel",
  "order.return": "asked for goods to come back",
  "order.return.decide": "decided on goods that come back",
  "chat.lift": "lifted a restriction",
  "user.logout": "logged a person out",
};

/** Details of a row as short texts: titles instead of ids, money and spans instead of numbers. */
export function detailTexts(detail, { titleOf, money }) {
  const texts = new Set(); // an offer and its product have one title
  for (const [name, value] of Object.entries(detail)) {
    if (value === null || value === "") continue;
    const words = name.replace(/_?(seconds|minor)$/, "").replace(/_/g, " ");
    if (name === "offer" || name === "sku") texts.add(titleOf(name, value));
    else if (name === "skus") texts.add(value.map((sku) => titleOf("sku", sku)).join(", ") || "none");
    else if (name.endsWith("seconds")) texts.add(`${words} ${spanOf(value)}`.trim());
    else if (name.endsWith("_minor")) texts.add(`${words} ${money(value)}`);
    else if (typeof value === "boolean") texts.add(`${words}: ${value ? "yes" : "no"}`);
    else texts.add(`${words}: ${Array.isArray(value) ? value.join(", ") : value}`);
  }
  return [...texts];
}

export class Log {
  constructor(desk) {
    this.desk = desk;
  }

  async show() {
    const { desk } = this;
    this.next = null;
    const body = h("tbody", {});
    const more = h("button", { type: "button", class: "quiet", onclick: () => this.page(body, more) }, "Older");
    await desk.attempt(async () => {
      await this.page(body, more);
      const head = h("tr", {}, ...["When and who", "What"].map((word) => h("th", { scope: "col" }, word)));
      desk.forms.show("Log", h("table", { class: "log" }, h("thead", {}, head), body), more);
    });
  }

  async page(body, more) {
    const cursor = this.next ? `&cursor=${encodeURIComponent(this.next)}` : "";
    const { items, next } = await get(`/v1/shows/${this.desk.showId}/audit-log?order=newest&limit=${PAGE}${cursor}`);
    this.next = next;
    more.hidden = !next;
    body.append(...items.map((action) => this.row(action)));
  }

  row({ action, caller, created_at: at, detail }) {
    const time = new Intl.DateTimeFormat(this.desk.language, { dateStyle: "short", timeStyle: "medium" });
    const facts = JSON.parse(detail);
    const chat = action.startsWith("chat.") && action !== "chat.lift";
    const what = chat ? moderationText({ action: action.slice(5), ...facts }) : WORDS[action] || action.replace(/[._]/g, " ");
    const { currency } = this.desk.model.show;
    const money = (minor) => formatMoney(minor, currency, this.desk.language);
    const rest = chat ? [] : detailTexts(facts, { titleOf: (kind, id) => this.titleOf(kind, id), money });
    return h(
      "tr",
      {},
      h("td", {}, time.format(at), h("p", { dir: "auto" }, caller)),
      h("td", {}, h("b", { dir: "auto" }, what), h("p", { class: "fine", dir: "auto" }, rest.join(" · "))),
    );
  }

  titleOf(kind, id) {
    if (kind === "offer") return this.desk.model.offers.get(id)?.title || id;
    return this.desk.productOf(id).title;
  }
}
