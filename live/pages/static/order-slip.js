/** A packing slip: what lies in the parcel and where it goes, on a page of its own. */

import { h } from "./dom.js";
import { formatMoney } from "./money.js";
import { linesOf } from "./order-sums.js";
import { shortId } from "./order-words.js";

/** What a slip lists, as `{item, qty}`: a parcel's items, else what is still to leave, else all. */
export function packed(order, items = null) {
  const lines = linesOf(order);
  if (items) return items.map(({ line, qty }) => ({ item: lines.find((one) => one.item.line === line).item, qty }));
  const due = lines.filter(({ mayLeave }) => mayLeave > 0);
  if (due.length) return due.map(({ item, mayLeave }) => ({ item, qty: mayLeave }));
  return lines.map(({ item }) => ({ item, qty: item.qty }));
}

export function slipOf(order, { text, items, prices }) {
  const rows = packed(order, items);
  const say = (key, values) => text.say(key, values);
  const money = (minor) => formatMoney(minor, order.currency, text.language);
  const columns = ["slip_sku", "slip_item", "slip_qty", ...(prices ? ["slip_price"] : []), "slip_done"];
  return h(
    "article",
    { class: "slip" },
    h("header", {}, h("h2", {}, say("slip_title")), h("p", {}, h("b", {}, `${say("order_number")} `), h("bdi", {}, shortId(order.order)))),
    h("div", { class: "slip-top" }, address(order, say("slip_to")), facts(order, text)),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ...columns.map((key) => h("th", { scope: "col" }, say(key))))),
      h("tbody", {}, ...rows.map(({ item, qty }) => row(item, qty, prices && money(item.price_minor), text))),
    ),
    h("p", { class: "slip-sum" }, say("slip_units", { n: rows.reduce((sum, { qty }) => sum + qty, 0) })),
    prices ? h("p", { class: "slip-sum" }, `${say("total")} ${money(order.total_minor)}`) : null,
  );
}

function row(item, qty, price, text) {
  return h(
    "tr",
    {},
    h("td", {}, h("bdi", {}, item.sku)),
    h("td", {}, h("bdi", {}, item.title)),
    h("td", { class: "n" }, text.number.format(qty)),
    price ? h("td", { class: "n" }, price) : null,
    h("td", { class: "box-cell" }, h("span", { class: "tick-box", "aria-hidden": "true" })),
  );
}

function address({ contact, sub }, title) {
  const { line1, line2, city, region, postcode, country } = contact?.address || {};
  const lines = [contact?.name || sub, line1, line2, [postcode, city].filter(Boolean).join(" "), region, country, contact?.phone];
  return h("address", {}, h("b", {}, title), ...lines.filter(Boolean).map((line) => h("span", { dir: "auto" }, line)));
}

function facts(order, text) {
  const day = new Intl.DateTimeFormat(text.language, { dateStyle: "long" });
  const rows = [
    ["slip_date", day.format(order.created_at)],
    ["slip_reference", order.reference],
    ["slip_full", order.order],
  ].filter(([, value]) => value);
  return h("dl", {}, ...rows.flatMap(([key, value]) => [h("dt", {}, text.say(key)), h("dd", {}, h("bdi", {}, value))]));
}
