/** Orders and what happened, newest first, with refunds and older orders on demand. */

import { get } from "./api.js";
import { byId, h, keyed, setHidden, toast } from "./dom.js";
import { formatMoney, toDecimal, toMinor } from "./money.js";
import { ORDER_WORDS, shortId } from "./order-words.js";

const LINES_MAX = 400;
const ORDERS_A_PAGE = 30;
const BACKLOG = 100; // of the desk's own log, read when the page opens
const REFUNDABLE = new Set(["confirmed", "paid", "partially_refunded"]); // the server knows what was captured
const SHOW_WORDS = {
  "show.started": "The show is on air",
  "show.paused": "The show pauses",
  "show.resumed": "The show goes on",
  "show.ended": "The show is over",
};
const OFFER_WORDS = {
  "offer.scheduled": "Countdown",
  "offer.opened": "Open",
  "offer.paused": "Paused",
  "offer.sold_out": "Sold out",
  "offer.restocked": "Restocked",
  "offer.closing": "Closing",
  "offer.closed": "Closed",
};
const MODERATION_WORDS = {
  delete: "deleted a chat line",
  pin: "pinned a chat line",
  unpin: "took the pinned line down",
  mute: "muted",
  unmute: "let speak again",
  shadow_ban: "shadow-banned",
  ban: "banned",
  unban: "lifted the ban of",
};

/** What a moderator did, as a sentence without its subject. */
export function moderationText({ action, sub, seconds }) {
  const what = MODERATION_WORDS[action] || action;
  const whom = sub ? ` ${sub}` : "";
  return `${what}${whom}${seconds ? ` for ${spanOf(seconds)}` : ""}`;
}

export const spanOf = (seconds) => (seconds % 60 ? `${seconds} s` : `${seconds / 60} min`);

export class Feed {
  constructor(desk) {
    this.desk = desk;
    this.lines = new Map(); // key -> {at, order?, text?}; an order has one line, in its latest state
    this.next = null; // cursor of the orders before those that are here
    byId("feed").replaceChildren();
    byId("feed-more").onclick = () => this.loadOrders();
  }

  /** What happened before this page was opened: orders for hosts, the desk's own log for all. */
  async load(connection) {
    if (this.desk.isHost) await this.loadOrders();
    const found = await connection.history(`desk:${this.desk.showId}`, BACKLOG).catch(() => null);
    for (const { data } of (found?.publications || []).reverse()) {
      if (data.type === "chat.author") this.desk.model.fold(data);
      // An order that the list gave us is in a later state than its old news.
      if (!(data.order && this.lines.has(data.order.order))) this.heard(data);
    }
    this.render();
  }

  async loadOrders() {
    const cursor = this.next ? `&cursor=${encodeURIComponent(this.next)}` : "";
    const path = `/v1/orders?show=${encodeURIComponent(this.desk.showId)}&order=newest&limit=${ORDERS_A_PAGE}${cursor}`;
    await this.desk.attempt(async () => {
      const { items, next } = await get(path);
      this.next = next;
      for (const order of items) if (!this.lines.has(order.order)) this.addOrder(order, order.created_at);
      this.render();
    });
  }

  heard(event) {
    const { type, at, offer, order } = event;
    if (order) this.addOrder(order, order.created_at || at);
    else if (type === "moderation") this.add(`${type} ${at} ${event.by}`, at, `${event.by} ${moderationText(event)}`);
    else if (offer && OFFER_WORDS[type]) this.addOffer(type, at, offer);
    else if (SHOW_WORDS[type]) this.add(`${type} ${at}`, at, this.showText(type, event.show));
  }

  showText(type, show) {
    if (show?.status === "rehearsal") return "The rehearsal begins";
    if (type === "show.ended" && show?.status === "scheduled") return "The rehearsal is over";
    return SHOW_WORDS[type];
  }

  addOffer(type, at, offer) {
    // One change may be told twice, by the show and by the stock: the same minute, the same words.
    this.add(`${type} ${offer.id} ${offer.version}`, at, `${OFFER_WORDS[type]}: ${offer.title}`);
  }

  add(key, at, text) {
    this.lines.set(key, { key, at, text });
  }

  addOrder(order, at) {
    this.lines.set(order.order, { key: order.order, at, order });
  }

  render() {
    const lines = [...this.lines.values()].sort((a, b) => b.at - a.at);
    for (const line of lines.splice(LINES_MAX)) this.lines.delete(line.key);
    setHidden(byId("feed-empty"), lines.length > 0);
    setHidden(byId("feed-more"), !this.next);
    // The state belongs to the key: an order that changes gets a new line with its new buttons.
    const refunds = ({ order }) => (order?.refunds || []).map(({ state }) => state).join();
    const keyOf = (line) => `${line.key} ${line.order?.state || ""} ${line.order?.refunded_minor || 0} ${refunds(line)}`;
    keyed(byId("feed"), lines, keyOf, (line) => this.create(line));
  }

  create({ at, order, text }) {
    const time = new Intl.DateTimeFormat(this.desk.language, { timeStyle: "medium" }).format(at);
    return h(
      "li",
      {},
      h("time", {}, time),
      order ? h("span", { class: "chip", "data-order": order.state }, ORDER_WORDS[order.state]) : null,
      order && this.desk.isHost && REFUNDABLE.has(order.state) ? this.refundButton(order) : null,
      h("p", { dir: "auto" }, order ? this.describe(order) : text),
    );
  }

  describe(order) {
    const title = (item) => this.desk.model.offers.get(item.offer)?.title || item.offer;
    const units = order.items.map((item) => `${item.qty} × ${title(item)}`).join(", ");
    if (!this.desk.isHost) return units;
    const back = order.refunded_minor ? `, ${this.money(order.refunded_minor, order.currency)} paid back` : "";
    const failed = (order.refunds || []).filter(({ state }) => state === "failed");
    const lost = failed.map((one) => `, a refund of ${this.money(one.amount_minor, order.currency)} failed: ${one.failure}`);
    return `${units} · ${this.money(order.total_minor, order.currency)}${back}${lost.join("")}`;
  }

  money(minor, currency) {
    return formatMoney(minor, currency, this.desk.language);
  }

  refundButton(order) {
    const label = `Refund order ${shortId(order.order)}`;
    const act = () => this.refund(order);
    return h("button", { type: "button", class: "quiet small", "aria-label": label, onclick: act }, "Refund");
  }

  refund(order) {
    const { desk } = this;
    const rest = order.total_minor - order.refunded_minor;
    desk.forms.open({
      title: "Refund an order",
      text: `${this.describe(order)}. Up to ${this.money(rest, order.currency)} can be paid back.`,
      fields: desk.forms.refundFields(toDecimal(rest, order.currency), order),
      submit: "Refund",
      danger: true,
      send: async (values) => {
        const amount = toMinor(values.get("amount"), order.currency);
        if (amount === null || amount < 1) desk.forms.fail("The amount must be more than nothing.");
        const body = { amount_minor: amount, reason: values.get("reason") };
        const units = order.items.map(({ offer }) => ({ offer, qty: Number(values.get(`back ${offer}`)) }));
        const items = units.filter(({ qty }) => qty > 0);
        if (values.get("restock") === "on" && items.length) Object.assign(body, { restock: true, items });
        this.addOrder(await desk.post(`/v1/orders/${order.order}/refund`, body), this.desk.clock.now());
        this.render();
        toast("The refund is on its way.");
      },
    });
  }
}
