/**
 * The buyer's own orders in the sheet: where they are, giving something back, and the withdrawal in
 * its two steps.
 *
 * Always: nothing is withdrawn before the buyer has read what it means and pressed the button that
 * says so; what the server answered is shown word for word, and stays with the order.
 */

import { bearerOf, request } from "./api.js";
import { CallError, newKey } from "./client.js";
import { h, isLink, setDisabled } from "./dom.js";
import { isGoing, linesOf, mayTakeBack, mayWithdraw } from "./order-sums.js";
import { saveText } from "./save.js";

const ORDERS_MAX = 100; // of one buyer in one show
const SEND_BACK_DAYS = 14; // Directive 2011/83/EU, article 14 (1)
const PLAIN = new Set(["subtotal", "total"]); // of an order that has nothing else the total says all
const OWN_WORDS = new Set(["subtotal", "discount", "duty"]); // shipping and tax have the shop's

export class MyOrders {
  constructor(sheet) {
    this.sheet = sheet;
    this.purchase = sheet.purchase;
    const href = new URL("./my-orders.css", import.meta.url).href;
    const link = h("link", { rel: "stylesheet", href });
    this.styled = new Promise((done) => {
      link.onload = link.onerror = done; // without its styles it can still be read
    });
    document.head.append(link);
    this.keys = new Map(); // of what is asked back, by what is sent
  }

  say(key, values) {
    return this.sheet.say(key, values);
  }

  get model() {
    return this.sheet.model;
  }

  /** Parcels and returns are no news on the own channel: read the orders when they are looked at. */
  async open() {
    await this.styled; // or everything would be bare for a moment, and small to hit
    this.purchase.show({ kind: "orders" });
    const alert = await this.read();
    if (this.purchase.view?.kind === "orders" && alert !== null) this.purchase.show({ kind: "orders", alert });
  }

  /** What to say of it: undefined, a text's key with its values, or null where nothing is new. */
  async read() {
    const { token } = this.purchase.viewer.visitor;
    const show = encodeURIComponent(document.body.dataset.show);
    try {
      const { items } = await request("GET", `/v1/orders?show=${show}&order=newest&limit=${ORDERS_MAX}`, undefined, bearerOf(token));
      const news = items.filter(({ order, updated_at: at }) => this.model.orders.get(order)?.updated_at !== at);
      for (const order of news) this.model.orders.set(order.order, order);
      return news.length ? undefined : null;
    } catch (error) {
      return ["orders_stale", { reason: error.message }];
    }
  }

  orders({ alert }) {
    const orders = [...this.model.orders.values()].sort((a, b) => b.created_at - a.created_at);
    return [this.sheet.title("your_orders"), this.sheet.alert(alert), ...orders.map((order) => this.card(order)), this.sheet.closing("close")];
  }

  card(order) {
    const { state, rehearsed, currency, fulfilment } = order;
    const told = rehearsed ? "status_rehearsal" : `ordered_${state}`;
    const chip = (text, props) => h("span", { class: "chip", ...props }, text);
    const over = fulfilment === "unfulfilled" && !isGoing(order); // nothing will be sent any more
    const sent = rehearsed || over ? null : chip(this.say(`fulfilled_${fulfilment}`), { "data-fulfilment": fulfilment });
    return h(
      "section",
      { class: "order" },
      h("div", { class: "order-head" }, this.sheet.number(order), h("span", { class: "chips" }, chip(this.say(told), { "data-order": state }), sent)),
      this.sheet.items(order.items, currency),
      ...this.totals(order),
      ...(order.shipments || []).map((one) => this.parcel(one)),
      ...(order.returns || []).map((one) => this.giveBackLine(order, one)),
      ...(rehearsed ? [] : [this.acts(order)]),
    );
  }

  totals({ totals = [], total_minor: total, refunded_minor: back, currency }) {
    const rows = totals.some(({ type }) => !PLAIN.has(type)) ? totals.filter(({ type }) => type !== "total") : [];
    const said = ({ type, label }) => (OWN_WORDS.has(type) ? this.say(`sum_${type}`) : label);
    const name = (row) => (row.inclusive ? this.say("sum_included", { name: said(row) }) : said(row));
    return [
      ...rows.map((row) => h("p", { class: "total part" }, h("span", { dir: "auto" }, name(row)), h("strong", {}, this.sheet.money(row.amount_minor, currency)))),
      this.sheet.total(total, currency),
      back > 0 ? this.sheet.total(back, currency, "paid_back") : null,
    ].filter(Boolean);
  }

  parcel({ carrier, tracking_number: number, tracking_url: url, status }) {
    const text = this.say("track", { number });
    const link = /^https:/.test(url) && isLink(url) ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, text) : h("bdi", {}, number);
    return h("p", { class: "parcel" }, h("b", {}, this.say(`parcel_${status}`)), h("span", {}, h("bdi", {}, carrier), " · ", link));
  }

  giveBackLine({ items: bought, currency }, { state, items, refund_minor: refund }) {
    const what = items.map(({ line, qty }) => `${qty} × ${bought.find((item) => item.line === line)?.title}`).join(", ");
    const money = refund > 0 ? ` · ${this.say("paid_back")}: ${this.sheet.money(refund, currency)}` : "";
    return h("p", { class: "parcel" }, h("b", {}, this.say(`return_${state}`)), h("span", { dir: "auto" }, what), money);
  }

  acts(order) {
    const show = (kind) => this.purchase.show({ kind, order });
    const give = mayTakeBack(order) && !order.withdrawn_at;
    const buttons = [
      give && this.sheet.button("giveback", () => show("giveback"), "quiet small"),
      mayWithdraw(order) && this.sheet.button("withdraw", () => this.askWithdrawal(order), "quiet small"),
      order.withdrawn_at && this.sheet.button("withdrawn_show", () => show("withdrawn"), "quiet small"),
    ].filter(Boolean);
    return h("p", { class: "row", hidden: !buttons.length }, ...buttons);
  }

  back() {
    return this.sheet.button("back", () => this.purchase.show({ kind: "orders" }));
  }

  giveback({ order, alert }) {
    const lines = linesOf(order).filter(({ mayReturn }) => mayReturn > 0);
    const form = h(
      "form",
      { class: "checkout", onsubmit: (event) => this.askBack(event, order) },
      ...lines.map((line) => this.quantity(line, lines.length === 1 ? "1" : "0")),
      this.labelled(this.say("giveback_reason"), h("input", { name: "reason", maxlength: "200", required: true, dir: "auto" })),
      h("button", { class: "primary" }, this.say("giveback_send")),
    );
    return [this.sheet.title("giveback_title"), this.sheet.number(order), this.sheet.line("giveback_text"), this.sheet.alert(alert), form, this.back()];
  }

  quantity({ item, mayReturn }, value) {
    const bounds = { type: "number", min: "0", max: mayReturn, step: "1", required: true };
    const box = h("input", { name: `line ${item.line}`, value, ...bounds });
    return this.labelled(this.say("giveback_units", { title: item.title, n: mayReturn }), box);
  }

  labelled(text, box) {
    return h("label", { class: "field" }, h("span", { dir: "auto" }, text), box);
  }

  async askBack(event, order) {
    event.preventDefault();
    const values = new FormData(event.target);
    const items = [...values.entries()]
      .filter(([name, qty]) => name.startsWith("line ") && Number(qty) > 0)
      .map(([name, qty]) => ({ line: Number(name.slice(5)), qty: Number(qty) }));
    const fail = (...alert) => this.purchase.show({ kind: "giveback", order, alert });
    if (!items.length) return fail("giveback_none");
    const body = { items, reason: values.get("reason").trim() };
    const text = order.order + JSON.stringify(body);
    if (!this.keys.has(text)) this.keys.set(text, newKey());
    const headers = { ...bearerOf(this.purchase.viewer.visitor.token), "idempotency-key": this.keys.get(text) };
    setDisabled(event.submitter, true);
    try {
      const changed = await request("POST", `/v1/orders/${order.order}/returns`, body, headers);
      this.keys.delete(text);
      this.model.orders.set(changed.order, changed);
      this.purchase.say("giveback_done");
      return this.purchase.show({ kind: "orders" });
    } catch (error) {
      return fail("say_failed", { reason: error.message });
    }
  }

  /** The first step: what would it mean? */
  async askWithdrawal(order) {
    const told = await this.ask(order, false);
    if (told) this.purchase.show({ kind: "withdraw", order, told });
  }

  /** The second step. A repeat after silence is the same withdrawal. */
  async confirm(order, told) {
    const done = await this.ask(order, true, told);
    if (!done) return;
    this.model.orders.set(done.order.order, done.order);
    this.purchase.show({ kind: "withdrawn", order: done.order, told });
  }

  async ask({ order }, confirm, told) {
    if (this.asking) return null;
    this.asking = true;
    try {
      return await this.purchase.viewer.connection.call("order.withdraw", { order, confirm });
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      const alert = error.temporary ? this.purchase.words(error) : ["withdraw_refused", { reason: error.message }];
      this.purchase.show(told ? { kind: "withdraw", order: this.model.orders.get(order), told, alert } : { kind: "orders", alert });
      return null;
    } finally {
      this.asking = false;
    }
  }

  /** What it means in the reader's language. The record is the server's own, and in English. */
  meaning({ refund_now_minor: now, refund_later_minor: later }, order) {
    const amount = (minor) => ({ amount: this.sheet.money(minor, order.currency) });
    const sent = mayTakeBack(order);
    const unsent = linesOf(order).some(({ mayLeave }) => mayLeave > 0);
    return [
      unsent ? this.sheet.line("withdraw_unsent") : null,
      now > 0 ? this.sheet.line("withdraw_now", amount(now)) : null,
      sent ? this.sheet.line("withdraw_send", { n: SEND_BACK_DAYS }) : null,
      later > 0 ? this.sheet.line("withdraw_later", amount(later)) : null,
      now + later === 0 ? this.sheet.line("withdraw_free") : null,
    ];
  }

  record(statement) {
    return h("div", { class: "record" }, this.sheet.fine("withdraw_record"), h("blockquote", { lang: "en", dir: "ltr" }, statement));
  }

  withdraw({ order, told, alert }) {
    return [
      this.sheet.title("withdraw_title"),
      this.sheet.number(order),
      this.sheet.alert(alert),
      ...this.meaning(told, order),
      this.record(told.statement),
      this.sheet.button("withdraw_confirm", () => this.confirm(order, told), "primary"),
      this.sheet.button("withdraw_keep", () => this.purchase.show({ kind: "orders" })),
    ];
  }

  withdrawn({ order, told }) {
    const statement = order.withdrawal_statement || told?.statement || "";
    const time = this.purchase.text.date(order.withdrawn_at);
    return [
      this.sheet.title("withdrawn_title"),
      this.sheet.number(order),
      this.sheet.line("withdrawn_on", { time }),
      this.sheet.line("withdrawn_text"),
      this.record(statement),
      h("div", { class: "row" }, this.sheet.button("save", () => this.keep(order, statement), "primary"), this.sheet.button("print", () => print())),
      this.back(),
    ];
  }

  keep({ order, withdrawn_at: at }, statement) {
    const lines = [this.say("withdrawn_title"), `${this.say("order_number")}: ${order}`, new Date(at).toISOString(), "", statement, ""];
    saveText(lines.join("\r\n"), `withdrawal-${order}.txt`, "text/plain");
  }
}
