/**
 * What may still happen to an order, counted from what it says of itself; and what each step would
 * do to money and stock.
 *
 * Pure. The server decides all of it anew and has the last word.
 */

const NOT_KEPT = new Set(["cancelled", "rejected"]);
const ENDED = new Set([...NOT_KEPT, "refunded"]);
const MONEY_TAKEN = new Set(["paid", "partially_refunded"]);

const unitsIn = (parts, line) =>
  parts.flatMap(({ items }) => items).reduce((sum, item) => sum + (item.line === line ? item.qty : 0), 0);

/** Of each line: its `item`, and how many units `left` the shop, `mayLeave` and `mayReturn`. */
export function linesOf({ items, shipments = [], returns = [] }) {
  const backAgain = shipments.filter(({ status }) => status === "returned_to_sender");
  const asked = returns.filter(({ state }) => state !== "refused");
  const received = returns.filter(({ state }) => state === "received");
  return items.map((item) => {
    const left = unitsIn(shipments, item.line);
    const cameBack = unitsIn(backAgain, item.line);
    const outside = left - cameBack - unitsIn(received, item.line);
    return {
      item,
      left,
      mayLeave: Math.max(0, item.qty - item.returned - outside),
      mayReturn: Math.max(0, left - cameBack - unitsIn(asked, item.line)),
    };
  });
}

const total = (numbers) => numbers.reduce((sum, n) => sum + n, 0);

/**
 * What goes back with units of lines, in minor units, as the server counts it (`worth_of`): their
 * price, their share of what the bill adds, rounded down together with that of units received before,
 * and with the last units of the order the shipping.
 */
export function worthOf({ items, totals, returns = [] }, parts) {
  const price = (rows) => total(rows.map(({ line, qty }) => qty * (items.find((item) => item.line === line)?.price_minor || 0)));
  const received = returns.filter(({ state }) => state === "received").flatMap((one) => one.items);
  const [goods, before] = [price(parts), price(received)];
  const of = (rows) => total(rows.map(({ amount_minor: amount }) => amount));
  const added = totals.filter(({ type, inclusive }) => !inclusive && type !== "subtotal" && type !== "total");
  const shipping = of(added.filter(({ type }) => type === "shipping"));
  const subtotal = of(totals.filter(({ type }) => type === "subtotal"));
  const others = of(added) - shipping;
  const share = (minor) => (subtotal ? Math.floor((others * minor) / subtotal) : 0);
  const kept = unitCount(items) - unitCount(received) - unitCount(parts);
  return goods + share(before + goods) - share(before) + (kept === 0 ? shipping : 0);
}

const unitCount = (rows) => total(rows.map(({ qty }) => qty));

/** What can still be paid back: refunds on their way are gone already. */
export function moneyLeft({ total_minor: paid, refunded_minor: back, refunds = [] }) {
  const due = refunds.filter(({ state }) => state === "due").map(({ amount_minor: amount }) => amount);
  return Math.max(0, paid - back - total(due));
}

/** Whether the order stands and not all of its money is back. */
export const isGoing = ({ state }) => !ENDED.has(state);

export const mayShip = (order) => isGoing(order) && linesOf(order).some(({ mayLeave }) => mayLeave > 0);

/** Before the money was taken there is nothing to pay back: such an order is cancelled. */
export const mayRefund = (order) => MONEY_TAKEN.has(order.state) && moneyLeft(order) > 0;

export const mayTakeBack = (order) => !NOT_KEPT.has(order.state) && linesOf(order).some(({ mayReturn }) => mayReturn > 0);

export const mayCancel = (order) => isGoing(order) && order.shipments.every(({ status }) => status === "returned_to_sender");

/** A buyer may try until their order is over; the server knows the last day. */
export const mayWithdraw = (order) =>
  !order.withdrawn_at && !NOT_KEPT.has(order.state) && (order.state !== "refunded" || mayTakeBack(order));

export const mayReceive = ({ state }) => state === "requested" || state === "approved";

/** How many units there are, in words. */
export const unitsText = (n) => (n === 1 ? "1 unit" : `${n} units`);

/** What the dialogs say, `{money, stock}`; `money` writes an amount of minor units. */
export const effects = {
  ship: ({ units }) => ({
    money: "No money moves.",
    stock: units ? `Marked as sent: ${unitsText(units)}. The shelf is not touched.` : "No units are chosen.",
  }),
  arrived: () => ({ money: "No money moves.", stock: "No stock moves." }),
  cameBack: ({ units }) => ({
    money: "No money moves: refund or cancel the order if it is not sent again.",
    stock: `Free to be sent once more: ${unitsText(units)}. The shelf is not touched.`,
  }),
  cancel(order, { restock, money }) {
    const units = unitCount(order.items);
    const left = moneyLeft(order);
    return {
      money: MONEY_TAKEN.has(order.state)
        ? `${money(left)} that was paid goes back to the buyer.`
        : "Money that is only set aside is let go. What was captured meanwhile goes back.",
      stock: restock
        ? `Back to the products' shelf: ${unitsText(units)}. Their offers do not sell them again by themselves.`
        : "Nothing goes back to the shelf: it counts as sold for good.",
    };
  },
  ask: ({ units }) => ({
    money: "No money moves before the goods are received.",
    stock: `Expected back: ${unitsText(units)}. The shelf changes when you receive them.`,
  }),
  decide: () => ({ money: "No money moves.", stock: "No stock moves." }),
  receive: ({ units, amount, restock, money }) => ({
    money: amount > 0 ? `${money(amount)} goes back to the buyer.` : "Nothing is paid back.",
    stock: restock ? `To the products' shelf: ${unitsText(units)}.` : `Written off, not to the shelf: ${unitsText(units)}.`,
  }),
  refund: ({ units, amount, left, money }) => ({
    money: `${money(amount)} goes back to the buyer${amount < left ? `; ${money(left - amount)} of what was paid stays.` : ": all that is left of what was paid."}`,
    stock: units ? `To the products' shelf: ${unitsText(units)}.` : "Nothing goes to the shelf.",
  }),
};

/** What a person should look at before the rest: short texts, none for most orders. */
export function concerns({ returns, refunds, withdrawn_at: withdrawn }) {
  const found = [];
  if (returns.some(({ state }) => state === "requested")) found.push("Return asked for");
  if (refunds.some(({ state }) => state === "failed")) found.push("Refund failed");
  if (withdrawn) found.push("Withdrawn");
  return found;
}

/** Whether a text is anywhere in what a person may look for. `text` is in lower case. */
export function matches({ order, sub, reference, contact, items, shipments }, text) {
  const address = Object.values(contact?.address || {});
  const words = [order, sub, reference, contact?.name, contact?.email, contact?.phone, ...address];
  const things = items.flatMap(({ sku, title }) => [sku, title]);
  const parcels = shipments.map(({ tracking_number: number }) => number);
  return [...words, ...things, ...parcels].some((word) => word && word.toLowerCase().includes(text));
}
