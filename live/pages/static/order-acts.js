/**
 * What the staff does with an order: each is a dialog that says first what happens to money and stock.
 *
 * Always: what had no answer is sent again under the key of before, so that it is done once.
 */

import { request } from "./api.js";
import { newKey } from "./client.js";
import { check, field, number } from "./dialog.js";
import { h, toast } from "./dom.js";
import { formatMoney, toDecimal, toMinor } from "./money.js";
import { effects, linesOf, moneyLeft, worthOf } from "./order-sums.js";
import { shortId } from "./order-words.js";

const CONFLICT = 409;
const TEXT = { required: true, maxlength: "200" };
const ARRIVALS = {
  delivered: ["Mark as delivered", "The parcel has arrived at the buyer's.", effects.arrived],
  returned_to_sender: ["Mark as come back", "The parcel came back without having been taken.", effects.cameBack],
};
const DECISIONS = {
  approved: ["Approve the return", "The buyer may send the goods.", "Approve"],
  refused: ["Refuse the return", "The units stay with the buyer, who may ask again.", "Refuse"],
};

export class Acts {
  /** `page`: has `forms`, `language`, hears of changed orders by `took(order)`, may `reload(id)`. */
  constructor(page) {
    this.page = page;
  }

  ship(order) {
    const lines = linesOf(order).filter(({ mayLeave }) => mayLeave > 0);
    this.open(order, {
      title: "Send a parcel",
      fields: [
        this.quantities(lines, "mayLeave"),
        h("div", { class: "grid" }, field("carrier", "Carrier", { ...TEXT, maxlength: "100" }), field("tracking_number", "Tracking number", { ...TEXT, maxlength: "100" })),
        field("tracking_url", "Tracking address (https, may be empty)", { type: "url", pattern: "https://.*", maxlength: "2000", dir: "ltr" }),
      ],
      submit: "Mark as sent",
      focus: "carrier",
      effect: (values) => effects.ship({ units: unitsOf(partsOf(values)) }),
      send: (values, send) => {
        const body = { items: this.chosen(values), carrier: textOf(values, "carrier"), tracking_number: textOf(values, "tracking_number") };
        if (textOf(values, "tracking_url")) body.tracking_url = textOf(values, "tracking_url");
        return send("POST", "/shipments", body);
      },
      said: "Marked as sent",
    });
  }

  arrival(order, shipment, status) {
    const [title, text, effect] = ARRIVALS[status];
    this.open(order, {
      title,
      text: `${text} ${shipment.carrier} ${shipment.tracking_number}.`,
      submit: title,
      effect: () => effect({ units: unitsOf(shipment.items) }),
      send: (_, send) => send("PATCH", `/shipments/${shipment.shipment}`, { status }),
      said: "Noted",
    });
  }

  cancel(order) {
    this.open(order, {
      title: "Cancel the order",
      text: "The promise is taken back, and the buyer is told. This cannot be undone.",
      fields: [field("reason", "Reason", TEXT), check("restock", "Put the units back into stock", true)],
      submit: "Cancel the order",
      dismiss: "Keep the order",
      danger: true,
      effect: (values) => effects.cancel(order, { restock: values.has("restock"), money: this.writer(order) }),
      send: (values, send) => send("POST", "/cancel", { reason: textOf(values, "reason"), restock: values.has("restock") }),
      said: "The order is cancelled",
    });
  }

  ask(order) {
    const lines = linesOf(order).filter(({ mayReturn }) => mayReturn > 0);
    this.open(order, {
      title: "Open a return",
      text: "For units that were sent and that the buyer wants to give back.",
      fields: [this.quantities(lines, "mayReturn"), field("reason", "Reason", TEXT)],
      submit: "Open the return",
      effect: (values) => effects.ask({ units: unitsOf(partsOf(values)) }),
      send: (values, send) => send("POST", "/returns", { items: this.chosen(values), reason: textOf(values, "reason") }),
      said: "The return is open",
    });
  }

  decide(order, one, state) {
    const [title, text, submit] = DECISIONS[state];
    this.open(order, {
      title,
      text: `${text} Reason given: ${one.reason}`,
      submit,
      danger: state === "refused",
      effect: effects.decide,
      send: (_, send) => send("PATCH", `/returns/${one.return}`, { state }),
      said: "Noted",
    });
  }

  receive(order, one) {
    const left = moneyLeft(order);
    const worth = Math.min(worthOf(order, one.items), left);
    const units = unitsOf(one.items);
    this.open(order, {
      title: "Goods received",
      text: `${this.itemsText(order, one.items)}. Money and shelf are decided now, once and together. Up to ${this.money(order, left)} can be paid back.`,
      fields: [this.amount(order, worth), check("restock", "The goods are as new: put them into stock", true)],
      submit: "Receive",
      danger: true,
      effect: (values) => effects.receive({ units, amount: amountOf(values, order) ?? 0, restock: values.has("restock"), money: this.writer(order) }),
      send: (values, send) => {
        const amount = this.checked(values, order, left, 0);
        return send("PATCH", `/returns/${one.return}`, { state: "received", refund_minor: amount, restock: values.has("restock") });
      },
      said: "The goods are received",
    });
  }

  refund(order) {
    const left = moneyLeft(order);
    const lines = linesOf(order);
    this.open(order, {
      title: "Refund",
      text: `Up to ${this.money(order, left)} can be paid back. For goods that come back later, open a return instead.`,
      fields: [this.amount(order, left), field("reason", "Reason", TEXT), this.quantities(lines, "none", "Units that are back and go into stock")],
      submit: "Refund",
      danger: true,
      effect: (values) => effects.refund({ units: unitsOf(partsOf(values)), amount: amountOf(values, order) ?? 0, left, money: this.writer(order) }),
      send: (values, send) => {
        const items = partsOf(values).map(({ line, qty }) => ({ offer: order.items.find((item) => item.line === line).offer, qty }));
        const least = items.length ? 0 : 1; // units alone may come back, too
        const body = { amount_minor: this.checked(values, order, left, least), reason: textOf(values, "reason") };
        if (items.length) Object.assign(body, { restock: true, items });
        return send("POST", "/refund", body);
      },
      said: "The refund is on its way",
    });
  }

  /** A dialog whose `send` gets a function that calls the API on this order. */
  open(order, { send, said, ...dialog }) {
    const keys = new Map(); // by what is sent: the same words have the same key
    const call = async (method, path, body) => {
      const text = path + JSON.stringify(body);
      if (!keys.has(text)) keys.set(text, newKey());
      await this.call(order, method, path, body, keys.get(text));
      toast(said);
    };
    this.page.forms.open({ ...dialog, title: `${dialog.title}: order ${shortId(order.order)}`, send: (values) => send(values, call) });
  }

  async call(order, method, path, body, key) {
    try {
      this.page.took(await request(method, `/v1/orders/${order.order}${path}`, body, { "idempotency-key": key }));
    } catch (error) {
      if (error.status === CONFLICT) this.page.reload(order.order); // somebody else was here
      if (error.status === 0) error.message += " It may have been done all the same. Press the button again: it is done once.";
      throw error;
    }
  }

  quantities(lines, most, legend = "Units") {
    const fields = lines.map((line) => {
      const { line: n, title, qty } = line.item;
      return number(`line ${n}`, `${title} (${most === "none" ? `${qty} bought` : `up to ${line[most]}`})`, 0, line[most] ?? qty, line[most] ?? 0);
    });
    return h("fieldset", { class: "quantities" }, h("legend", {}, legend), ...fields);
  }

  chosen(values) {
    const items = partsOf(values);
    if (!items.length) this.page.forms.fail("Choose one unit at least.", [...values.keys()].find((name) => name.startsWith("line ")));
    return items;
  }

  amount(order, minor) {
    return field("amount", `Amount in ${order.currency}`, { inputmode: "decimal", required: true, value: toDecimal(minor, order.currency) });
  }

  checked(values, order, left, least) {
    const amount = amountOf(values, order);
    if (amount === null) this.page.forms.fail("This is no amount of money.", "amount");
    if (amount < least) this.page.forms.fail("The amount must be more than nothing.", "amount");
    if (amount > left) this.page.forms.fail(`No more than ${this.money(order, left)} can be paid back.`, "amount");
    return amount;
  }

  money({ currency }, minor) {
    return formatMoney(minor, currency, this.page.language);
  }

  writer(order) {
    return (minor) => this.money(order, minor);
  }

  itemsText({ items }, parts) {
    return parts.map(({ line, qty }) => `${qty} × ${items.find((item) => item.line === line)?.title}`).join(", ");
  }
}

const textOf = (values, name) => (values.get(name) || "").trim();

const amountOf = (values, { currency }) => toMinor(values.get("amount"), currency);

/** The units that were chosen, by line. */
const partsOf = (values) =>
  [...values.entries()]
    .filter(([name, qty]) => name.startsWith("line ") && Number(qty) > 0)
    .map(([name, qty]) => ({ line: Number(name.slice(5)), qty: Number(qty) }));

const unitsOf = (parts) => parts.reduce((sum, { qty }) => sum + qty, 0);
