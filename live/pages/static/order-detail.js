/**
 * One order in full: lines, totals, where it goes, parcels, returns, refunds, and what may be done.
 *
 * Always: a redraw keeps the focus where it was, or takes it to the title; an order that did not
 * change is not drawn anew, so that a marked address stays marked.
 */

import { byId, h, isLink, setHidden } from "./dom.js";
import { formatMoney } from "./money.js";
import { chipsOf } from "./order-row.js";
import { linesOf, mayCancel, mayReceive, mayRefund, mayShip, mayTakeBack } from "./order-sums.js";
import { REFUND_WORDS, RETURN_WORDS, SHIPMENT_WORDS, shortId } from "./order-words.js";

export class Detail {
  constructor(page) {
    this.page = page;
    this.box = byId("detail");
    this.id = null;
    this.drawn = null;
    this.box.addEventListener("keydown", (event) => event.key === "Escape" && this.back());
  }

  get order() {
    return this.page.list.known(this.id);
  }

  open(id) {
    this.id = id;
    this.draw();
    this.box.scrollTop = 0;
    byId("detail-title").focus();
    this.page.list.render();
  }

  close() {
    this.id = null;
    this.drawn = null;
    setHidden(this.box, true);
    document.body.dataset.detail = "no";
    this.box.replaceChildren();
  }

  back() {
    const { id } = this;
    this.close();
    this.page.list.render();
    this.page.list.focus(id);
  }

  /** The list heard something: perhaps of this order. */
  renew() {
    if (!this.id) return;
    if (!this.order) this.close();
    else if (this.order.updated_at !== this.drawn) this.draw();
  }

  /** A dialog has closed, and the button that opened it may be gone: the focus must not be lost. */
  settle() {
    const lost = document.activeElement === document.body || byId("box").contains(document.activeElement);
    if (this.id && lost) byId("detail-title").focus();
  }

  draw() {
    const { order } = this;
    const act = this.box.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    this.drawn = order.updated_at;
    setHidden(this.box, false);
    document.body.dataset.detail = "yes";
    this.box.replaceChildren(...this.parts(order).filter(Boolean));
    if (act !== null) (this.box.querySelector(`[data-act="${CSS.escape(act || "")}"]`) || byId("detail-title")).focus();
  }

  parts(order) {
    return [
      this.head(order),
      chipsOf(order),
      this.actions(order),
      this.facts(order),
      this.section("Items", this.lines(order), this.totals(order)),
      order.shipments.length ? this.section("Parcels", ...order.shipments.map((one) => this.shipment(order, one))) : null,
      order.returns.length ? this.section("Returns", ...order.returns.map((one) => this.giveBack(order, one))) : null,
      order.refunds.length ? this.section("Refunds", this.refunds(order)) : null,
      order.withdrawn_at ? this.section("Withdrawal", ...this.withdrawal(order)) : null,
    ];
  }

  withdrawal({ withdrawn_at: at, withdrawal_statement: statement }) {
    return [h("p", {}, `The buyer withdrew on ${this.time(at)}.`), h("p", { class: "fine" }, statement || "")];
  }

  head({ order }) {
    const title = h("h2", { id: "detail-title", tabindex: "-1" }, `Order ${shortId(order)}`);
    return h("header", {}, title, this.button("back", "Close", () => this.back(), "quiet small"));
  }

  actions(order) {
    const { acts, files } = this.page;
    const buttons = [
      mayShip(order) && this.button("ship", "Send a parcel", () => acts.ship(order), "primary small"),
      mayTakeBack(order) && this.button("ask", "Open a return", () => acts.ask(order)),
      mayRefund(order) && this.button("refund", "Refund", () => acts.refund(order)),
      mayCancel(order) && this.button("cancel", "Cancel the order", () => acts.cancel(order), "danger quiet small"),
      this.button("slip", "Packing slip", () => files.slips([order])),
    ];
    return h("div", { class: "row", role: "group", "aria-label": "Actions" }, ...buttons.filter(Boolean));
  }

  button(name, label, act, kind = "quiet small", about = null) {
    return h("button", { type: "button", class: kind, "data-act": name, "aria-label": about && `${label}: ${about}`, onclick: act }, label);
  }

  facts(order) {
    const { contact } = order;
    const { line1, line2, city, region, postcode, country } = contact?.address || {};
    const address = [line1, line2, [postcode, city].filter(Boolean).join(" "), region, country].filter(Boolean);
    const rows = [
      ["Order", order.order],
      ["Reference", order.reference],
      ["Bought", this.time(order.created_at)],
      ["Changed", this.time(order.updated_at)],
      ["Show", order.show],
      ["Buyer", order.sub],
      ["Name", contact?.name],
      ["E-mail", contact?.email],
      ["Phone", contact?.phone],
    ].filter(([, value]) => value);
    const cells = rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", { dir: "auto" }, value)]);
    const where = address.length ? address.map((part) => h("span", { dir: "auto" }, part)) : [h("span", { class: "fine" }, "No address was given.")];
    return h("dl", { class: "facts" }, ...cells, h("dt", {}, "Send to"), h("dd", { class: "address" }, ...where));
  }

  section(title, ...parts) {
    return h("section", { class: "part" }, h("h3", {}, title), ...parts);
  }

  lines(order) {
    const rows = linesOf(order).map(({ item, left }) =>
      h(
        "tr",
        {},
        h("td", { dir: "auto" }, item.title, h("span", { class: "fine" }, h("bdi", {}, item.sku), left ? ` · ${left} of ${item.qty} sent` : "")),
        h("td", { class: "n" }, `${item.qty} ×`),
        h("td", { class: "n" }, this.money(order, item.price_minor)),
        h("td", { class: "n" }, this.money(order, item.price_minor * item.qty - item.discount_minor)),
      ),
    );
    const head = ["Product", "Units", "Price", "Sum"].map((word) => h("th", { scope: "col" }, word));
    return h("table", { class: "lines" }, h("thead", { class: "sr-only" }, h("tr", {}, ...head)), h("tbody", {}, ...rows));
  }

  totals(order) {
    const rows = order.totals.map(({ type, label, amount_minor: amount, inclusive }) => [type, inclusive ? `${label} (included)` : label, amount]);
    if (order.refunded_minor) rows.push(["back", "Paid back", order.refunded_minor]);
    const cells = rows.flatMap(([type, label, amount]) => [
      h("dt", { "data-type": type, dir: "auto" }, label),
      h("dd", { "data-type": type }, this.money(order, amount)),
    ]);
    return h("dl", { class: "totals" }, ...cells);
  }

  shipment(order, one) {
    const { acts, files } = this.page;
    const { shipment, carrier, tracking_number: number, tracking_url: url, status } = one;
    const where = /^https:/.test(url) && isLink(url) ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, number) : h("bdi", {}, number);
    const buttons = [
      status === "shipped" && this.button(`delivered ${shipment}`, "Delivered", () => acts.arrival(order, one, "delivered"), "quiet small", number),
      status !== "returned_to_sender" && this.button(`back ${shipment}`, "Came back", () => acts.arrival(order, one, "returned_to_sender"), "quiet small", number),
      this.button(`slip ${shipment}`, "Packing slip", () => files.slips([order], one.items), "quiet small", number),
    ];
    return this.card(
      [h("span", {}, h("bdi", {}, carrier), " ", where), h("span", { class: "chip" }, SHIPMENT_WORDS[status])],
      [`${acts.itemsText(order, one.items)} · ${this.time(one.created_at)}`],
      buttons,
    );
  }

  giveBack(order, one) {
    const { acts } = this.page;
    const name = one.reason;
    const decided = one.state === "received" ? `${this.money(order, one.refund_minor ?? 0)} back, ${one.restocked ? "put into stock" : "not put into stock"}` : "";
    const buttons = [
      one.state === "requested" && this.button(`approve ${one.return}`, "Approve", () => acts.decide(order, one, "approved"), "quiet small", name),
      mayReceive(one) && this.button(`receive ${one.return}`, "Received", () => acts.receive(order, one), "primary small", name),
      mayReceive(one) && this.button(`refuse ${one.return}`, "Refuse", () => acts.decide(order, one, "refused"), "quiet small", name),
    ];
    return this.card(
      [h("span", { dir: "auto" }, one.reason), h("span", { class: "chip" }, RETURN_WORDS[one.state])],
      [`${acts.itemsText(order, one.items)} · ${this.time(one.created_at)}`, decided],
      buttons,
    );
  }

  card(head, texts, buttons) {
    return h(
      "div",
      { class: "card" },
      h("p", { class: "card-head" }, ...head),
      ...texts.filter(Boolean).map((text) => h("p", { class: "fine", dir: "auto" }, text)),
      h("div", { class: "row" }, ...buttons.filter(Boolean)),
    );
  }

  refunds(order) {
    const rows = order.refunds.map(({ amount_minor: amount, state, failure, asked_at: at }) =>
      h("li", {}, `${this.money(order, amount)} · ${REFUND_WORDS[state]}${failure ? `: ${failure}` : ""} · ${this.time(at)}`),
    );
    return h("ul", { class: "refunds" }, ...rows);
  }

  money({ currency }, minor) {
    return formatMoney(minor, currency, this.page.language);
  }

  time(at) {
    return new Intl.DateTimeFormat(this.page.language, { dateStyle: "medium", timeStyle: "short" }).format(at);
  }
}
