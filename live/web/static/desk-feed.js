/** Orders and what happened, newest first; refunds; the log of what hosts did. */

import { get } from "./api.js";
import { byId, h, keyed, setHidden, toast } from "./dom.js";
import { formatMoney, toDecimal, toMinor } from "./money.js";

const LINES_MAX = 80;
const FIRST_ORDERS = 30;
const ACTIONS_SHOWN = 100;
const PAGE = 200; // the server's largest
const PAGES_MAX = 20; // the log is read from its beginning; beyond this its end is not reached
const REFUNDABLE = new Set(["confirmed", "paid", "partially_refunded"]); // the server knows what was captured
const STATE_WORDS = {
  confirmed: "confirmed",
  paid: "paid",
  partially_refunded: "partly refunded",
  refunded: "refunded",
  cancelled: "cancelled",
  rejected: "rejected",
};

export class Feed {
  constructor(desk) {
    this.desk = desk;
    this.lines = []; // {key, at, order?, text?}; an order has one line, in its latest state
    byId("feed").replaceChildren();
  }

  /** Orders from before this page was opened. */
  async load() {
    const path = `/v1/orders?show=${encodeURIComponent(this.desk.showId)}&limit=${FIRST_ORDERS}`;
    await this.desk.attempt(async () => {
      const { items } = await get(path);
      for (const order of items.reverse()) this.addOrder(order, order.created_at);
      this.render();
    });
  }

  heard(event) {
    if (event.order) this.addOrder(event.order, event.at);
    else if (event.offer && event.type !== "offer.updated") this.add(event, `Offer ${wordsOf(event.type)}: ${event.offer.title}`);
    else if (event.type.startsWith("show.")) this.add(event, `Show ${wordsOf(event.type)}`);
  }

  add({ type, at, offer }, text) {
    this.push({ key: `${type} ${at} ${offer?.id || ""}`, at, text });
  }

  addOrder(order, at) {
    this.push({ key: order.order, at, order });
  }

  push(line) {
    this.lines = [line, ...this.lines.filter((one) => one.key !== line.key)].slice(0, LINES_MAX);
  }

  render() {
    setHidden(byId("feed-empty"), this.lines.length > 0);
    // The state belongs to the key: an order that changes gets a new line with its new buttons.
    const keyOf = (line) => `${line.key} ${line.order?.state || ""} ${line.order?.refunded_minor || 0}`;
    keyed(byId("feed"), this.lines, keyOf, (line) => this.create(line));
  }

  create({ at, order, text }) {
    const time = new Intl.DateTimeFormat(this.desk.language, { timeStyle: "medium" }).format(at);
    return h(
      "li",
      {},
      h("time", {}, time),
      order ? h("span", { class: "chip", "data-order": order.state }, STATE_WORDS[order.state]) : null,
      order && this.desk.isHost && REFUNDABLE.has(order.state) ? this.refundButton(order) : null,
      h("p", { dir: "auto" }, order ? this.describe(order) : text),
    );
  }

  describe(order) {
    const title = (item) => this.desk.model.offers.get(item.offer)?.title || item.offer;
    const units = order.items.map((item) => `${item.qty} × ${title(item)}`).join(", ");
    return this.desk.isHost ? `${units} · ${this.money(order.total_minor, order.currency)}` : units;
  }

  money(minor, currency) {
    return formatMoney(minor, currency, this.desk.language);
  }

  refundButton(order) {
    const label = `Refund order ${order.order.slice(0, 8)}`;
    const act = () => this.refund(order);
    return h("button", { type: "button", class: "quiet small", "aria-label": label, onclick: act }, "Refund");
  }

  refund(order) {
    const { desk } = this;
    const rest = order.total_minor - order.refunded_minor;
    desk.forms.open({
      title: "Refund an order",
      text: `${this.describe(order)}. Up to ${this.money(rest, order.currency)} can be paid back.`,
      fields: desk.forms.refundFields(toDecimal(rest, order.currency), order.currency),
      submit: "Refund",
      danger: true,
      send: async (values) => {
        const amount = toMinor(values.get("amount"), order.currency);
        if (amount === null || amount < 1) desk.forms.fail("The amount must be more than nothing.");
        const body = { amount_minor: amount, reason: values.get("reason"), restock: values.get("restock") === "on" };
        this.addOrder(await desk.post(`/v1/orders/${order.order}/refund`, body), Date.now());
        this.render();
        toast("The refund is on its way.");
      },
    });
  }

  /** What hosts and moderators did, as the server recorded it. */
  async showLog() {
    const { desk } = this;
    await desk.attempt(async () => {
      const items = (await this.readLog()).slice(-ACTIONS_SHOWN).reverse();
      const time = new Intl.DateTimeFormat(desk.language, { dateStyle: "short", timeStyle: "medium" });
      const row = (action) =>
        h(
          "tr",
          {},
          h("td", {}, time.format(action.created_at), h("p", { dir: "auto" }, action.caller)),
          h(
            "td",
            {},
            h("b", {}, action.action.replace(/[._]/g, " ")),
            h("p", { class: "fine", dir: "auto" }, action.detail === "{}" ? "" : action.detail),
          ),
        );
      const head = h("tr", {}, ...["When and who", "What"].map((word) => h("th", { scope: "col" }, word)));
      desk.forms.show("Log", h("table", { class: "log" }, h("thead", {}, head), h("tbody", {}, ...items.map(row))));
    });
  }

  async readLog() {
    const path = `/v1/shows/${this.desk.showId}/audit-log?limit=${PAGE}`;
    const items = [];
    let cursor = "";
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const answer = await get(cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path);
      items.push(...answer.items);
      cursor = answer.next;
      if (!cursor) break;
    }
    return items;
  }
}

const wordsOf = (type) => type.split(".")[1].replace("_", " ");
