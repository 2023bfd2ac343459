/**
 * Orders as a table for a spreadsheet: one row a line of an order, in the form of `live orders --csv`.
 *
 * Always: a cell that a spreadsheet would take for a formula begins with an apostrophe: names and
 * reasons are of strangers. Amounts are decimal numbers with a point; times are ISO 8601 in UTC.
 */

import { toDecimal } from "./money.js";

const PAGE = 200;
const ORDERS_MAX = 50_000; // about 20 MB in the page's memory

const contact = (name) => [name, (order) => order.contact?.[name]];
const address = (name) => [name, (order) => order.contact?.address[name]];

const COLUMNS = [
  ["order", (order) => order.order],
  ["created_at", (order) => timeOf(order.created_at)],
  ["updated_at", (order) => timeOf(order.updated_at)],
  ["show", (order) => order.show],
  ["reference", (order) => order.reference],
  ["buyer", (order) => order.sub],
  ["state", (order) => order.state],
  ["fulfilment", (order) => order.fulfilment],
  ["line", (_, item) => item.line],
  ["sku", (_, item) => item.sku],
  ["title", (_, item) => item.title],
  ["qty", (_, item) => item.qty],
  ["sent", (_, item) => item.shipped],
  ["returned", (_, item) => item.returned],
  ["to_ship", (_, item) => item.to_ship],
  ["price", (order, item) => toDecimal(item.price_minor, order.currency)],
  ["currency", (order) => order.currency],
  ...["name", "email", "phone"].map(contact),
  ...["line1", "line2", "city", "region", "postcode", "country"].map(address),
  ["tracking_numbers", (order, item) => numbersOf(order, item).join(" ")],
];

const timeOf = (ms) => new Date(ms).toISOString().replace(/\.\d+Z$/, "+00:00");

/** The numbers of the parcels with units of this line, but for those that came back. */
function numbersOf({ shipments }, { line }) {
  const there = shipments.filter(({ status }) => status !== "returned_to_sender");
  return there.filter(({ items }) => items.some((item) => item.line === line)).map((one) => one.tracking_number);
}

/** One cell: harmless in a spreadsheet, quoted where it must be. */
export function cell(value) {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const rowOf = (cells) => `${cells.map(cell).join(",")}\r\n`;

export const heading = () => rowOf(COLUMNS.map(([name]) => name));

export const rowsOf = (order) =>
  order.items.map((item) => rowOf(COLUMNS.map(([, read]) => read(order, item))));

/**
 * Read all pages and give `{parts, orders, complete}`; `parts` are the lines of the file.
 *
 * `read(cursor, limit)` gives a page, `keeps(order)` says which of them are wanted, `tell(orders)`
 * hears how many there are so far, and `signal` ends it between two pages: then the answer is null.
 */
export async function exportOrders({ read, keeps = () => true, tell = () => {}, signal, ordersMax = ORDERS_MAX }) {
  const parts = [heading()];
  let orders = 0;
  let cursor = null;
  do {
    const { items, next } = await read(cursor, PAGE);
    if (signal?.aborted) return null;
    for (const order of items.filter(keeps)) {
      if (orders >= ordersMax) return { parts, orders, complete: false };
      parts.push(...rowsOf(order));
      orders += 1;
    }
    tell(orders);
    cursor = next;
  } while (cursor);
  return { parts, orders, complete: true };
}
