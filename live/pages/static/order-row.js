/** An order in a few words: a row of the list, and the chips that its detail has as well. */

import { h } from "./dom.js";
import { formatMoney } from "./money.js";
import { concerns, isGoing } from "./order-sums.js";
import { FULFILMENT_WORDS, ORDER_WORDS, shortId } from "./order-words.js";

export function cellsOf(order, language) {
  const time = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "short" });
  const items = order.items.map(({ qty, title }) => `${qty} × ${title}`).join(", ");
  const { contact, sub } = order;
  return [
    h("span", { class: "when" }, h("b", {}, shortId(order.order)), h("span", { class: "fine" }, time.format(order.created_at))),
    h("span", { class: "whose" }, h("bdi", {}, contact?.name || sub), contact?.name ? h("bdi", { class: "fine" }, contact.email || sub) : null),
    h("bdi", { class: "what" }, items),
    h("span", { class: "sum" }, formatMoney(order.total_minor, order.currency, language)),
    chipsOf(order),
  ];
}

export function chipsOf(order) {
  const over = order.fulfilment === "unfulfilled" && !isGoing(order); // nothing will be sent any more
  return h(
    "span",
    { class: "chips" },
    h("span", { class: "chip", "data-order": order.state }, ORDER_WORDS[order.state]),
    over ? null : h("span", { class: "chip", "data-fulfilment": order.fulfilment }, FULFILMENT_WORDS[order.fulfilment]),
    ...concerns(order).map((text) => h("span", { class: "chip concern" }, text)),
  );
}
