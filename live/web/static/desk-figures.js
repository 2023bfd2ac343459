/** Live figures: tiles with a value and its last minutes; revenue only where the server sends it. */

import { get } from "./api.js";
import { Sparkline } from "./charts.js";
import { byId, h, setHidden, setText } from "./dom.js";
import { formatMoney } from "./money.js";
import { perMinute } from "./rates.js";

const REPORT_MS = 10_000;
const POINTS_MAX = 300; // five minutes at one a second

export class Figures {
  constructor(desk) {
    this.desk = desk;
    this.samples = []; // of desk.figures, oldest first
    this.report = null;
    this.reportAt = 0;
    this.tiles = new Map();
    byId("tiles").replaceChildren();
    for (const [name, label] of Object.entries(LABELS)) this.addTile(name, label);
  }

  addTile(name, label) {
    const spark = new Sparkline();
    const value = h("dd", {}, "–");
    const note = h("dd", { class: "note" });
    const box = h("dl", { class: "tile", "data-tile": name }, h("dt", {}, label), value, note, spark.element);
    this.tiles.set(name, { box, value, note, spark, series: [] });
    byId("tiles").append(box);
  }

  heard(figures) {
    this.samples.push(figures);
    if (this.samples.length > POINTS_MAX) this.samples.shift();
    const left = figures.offers.reduce((sum, offer) => sum + offer.left, 0);
    // Of all offers, the closed ones included: figures carry only those that still sell.
    const sold = [...this.desk.model.offers.values()].reduce((sum, offer) => sum + offer.sold, 0);
    this.put("viewers", figures.viewers);
    this.put("stock", left, { note: `${this.count(sold)} sold` });
    this.put("holds", figures.holds);
    this.put("orders", this.rate("orders", figures.at), { note: `${this.count(figures.orders)} in all` });
    this.putRevenue(figures);
    this.putConversion();
    const lag = figures.settlement_lag_ms;
    this.put("lag", lag, { text: `${this.count(lag)} ms`, state: lag > 5_000 ? "bad" : lag > 1_000 ? "warn" : "" });
    this.putBalance();
  }

  /** As the server reckons it in the show's report, which hosts may read. */
  putConversion() {
    setHidden(this.tiles.get("conversion").box, !this.report);
    if (!this.report) return;
    const { conversion, holds } = this.report;
    const note = `of ${this.count(holds)} ${holds === 1 ? "hold" : "holds"}`;
    this.put("conversion", conversion, { text: this.percent(conversion), note });
  }

  /** Ask for the report from time to time; between two answers the last one stands. */
  async readReport() {
    if (!this.desk.isHost || Date.now() - this.reportAt < REPORT_MS) return;
    this.reportAt = Date.now();
    const path = `/v1/shows/${this.desk.showId}/report`;
    this.report = await get(path).catch(() => this.report);
  }

  rate(field, now) {
    return perMinute(this.samples.map((one) => ({ at: one.at, value: one[field] })), now);
  }

  putRevenue({ at, revenue_minor: revenue, currency }) {
    const known = typeof revenue === "number" && this.desk.isHost;
    setHidden(this.tiles.get("revenue").box, !known);
    if (!known) return;
    const money = (minor) => formatMoney(minor, currency, this.desk.language);
    const rate = this.rate("revenue_minor", at);
    this.put("revenue", rate, { text: money(rate), note: `${money(revenue)} in all` });
  }

  /** The first invariant, checked from here: every unit is left, held or sold. */
  putBalance() {
    const offers = [...this.desk.model.offers.values()].filter((offer) => offer.phase !== "draft");
    const over = offers.filter((offer) => offer.left < 0 || offer.sold > offer.quantity);
    const text = over.length ? `${over.length} oversold` : offers.length ? "Balanced" : "–";
    this.put("audit", 0, { text, state: over.length ? "bad" : "good", note: "sold ≤ offered" });
  }

  put(name, value, { text = this.count(value), note = "", state = "" } = {}) {
    const tile = this.tiles.get(name);
    setText(tile.value, text);
    setText(tile.note, note);
    tile.box.dataset.state = state;
    tile.series.push(value);
    if (tile.series.length > POINTS_MAX) tile.series.shift();
    tile.spark.draw(tile.series);
  }

  count(value) {
    return new Intl.NumberFormat(this.desk.language).format(value);
  }

  percent(share) {
    return new Intl.NumberFormat(this.desk.language, { style: "percent", maximumFractionDigits: 1 }).format(share);
  }
}

const LABELS = {
  viewers: "Viewers",
  stock: "Units left",
  holds: "Holds",
  orders: "Orders a minute",
  revenue: "Revenue a minute",
  conversion: "Conversion",
  lag: "Settlement lag",
  audit: "Stock check",
};
