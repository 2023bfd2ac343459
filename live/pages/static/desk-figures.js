/** Live figures: tiles with a value and its last minutes; revenue only where the server sends it. */

import { get } from "./api.js";
import { Sparkline } from "./charts.js";
import { monotonic } from "./clock.js";
import { byId, h, setHidden, setText } from "./dom.js";
import { formatMoney } from "./money.js";
import { perMinute } from "./rates.js";
import { tabStorage } from "./storage.js";

const REPORT_MS = 10_000;
const OLD_MS = 10_000; // figures come once a second while a show runs
const AUDIT_OLD_MS = 300_000; // an audit is due every minute
const RUNNING = new Set(["live", "paused", "rehearsal"]);
const POINTS_MAX = 300; // five minutes at one a second
const KEPT_MS = 120_000; // samples older than this say nothing about a minute

export class Figures {
  constructor(desk) {
    this.desk = desk;
    this.key = `live:figures:${desk.showId}`;
    this.samples = []; // of desk.figures, oldest first
    this.report = null;
    this.reportAt = -Infinity; // by the monotonic clock
    this.tiles = new Map();
    byId("tiles").replaceChildren();
    for (const [name, label] of Object.entries(LABELS)) this.addTile(name, label);
    for (const sample of this.keptSamples()) this.heard(sample);
  }

  /** What this tab has heard before a reload, so that rates do not begin at nothing. */
  keptSamples() {
    const kept = JSON.parse(tabStorage.get(this.key) || "[]");
    return kept.filter((sample) => sample.at > this.desk.clock.now() - KEPT_MS);
  }

  addTile(name, label) {
    const spark = PLAIN.has(name) ? null : new Sparkline();
    const value = h("dd", {}, "–");
    const note = h("dd", { class: "note" });
    const box = h("dl", { class: "tile", "data-tile": name }, h("dt", {}, label), value, note, spark?.element);
    this.tiles.set(name, { box, value, note, spark, series: [] });
    byId("tiles").append(box);
  }

  heard(figures) {
    this.samples.push(figures);
    if (this.samples.length > POINTS_MAX) this.samples.shift();
    const fresh = this.samples.filter((sample) => sample.at > figures.at - KEPT_MS);
    tabStorage.set(this.key, JSON.stringify(fresh));
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
    this.putAudit();
  }

  /**
   * Who renews these figures may be gone: then they are marked as of their time, and how far settling
   * is behind, which nobody can tell any more, is not told.
   */
  tick() {
    const last = this.samples.at(-1);
    const running = RUNNING.has(this.desk.model.show.status);
    if (!running || !last || this.desk.clock.now() - last.at <= OLD_MS) return;
    const note = `not told since ${this.time(last.at)}`;
    for (const name of RENEWED) this.mark(name, note);
    setText(this.tiles.get("lag").value, "–");
    this.mark("lag", note, "bad");
  }

  mark(name, note, state = "warn") {
    const tile = this.tiles.get(name);
    setText(tile.note, note);
    tile.box.dataset.state = state;
  }

  time(at) {
    return new Intl.DateTimeFormat(this.desk.language, { timeStyle: "short" }).format(at);
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
    if (!this.desk.isHost || monotonic() - this.reportAt < REPORT_MS) return;
    this.reportAt = monotonic();
    const path = `/v1/shows/${this.desk.showId}/report`;
    this.report = await get(path).catch(() => this.report);
    this.putConversion();
    this.putAudit();
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

  /** The server's own audit, of all shows together: what it found last, and when. */
  putAudit() {
    setHidden(this.tiles.get("audit").box, !this.desk.isHost);
    if (!this.report) return;
    const { audit } = this.report;
    if (!audit) return this.put("audit", 0, { text: "–", note: "not run yet" });
    const time = this.time(audit.at);
    if (this.desk.clock.now() - audit.at > AUDIT_OLD_MS) {
      return this.put("audit", 0, { text: "–", state: "warn", note: `not checked since ${time}` });
    }
    const text = audit.findings ? `${this.count(audit.findings)} found` : "In order";
    this.put("audit", 0, { text, state: audit.findings ? "bad" : "good", note: `checked at ${time}` });
  }

  put(name, value, { text = this.count(value), note = "", state = "" } = {}) {
    const tile = this.tiles.get(name);
    setText(tile.value, text);
    setText(tile.note, note);
    tile.box.dataset.state = state;
    tile.series.push(value);
    if (tile.series.length > POINTS_MAX) tile.series.shift();
    tile.spark?.draw(tile.series);
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
  audit: "Audit",
};
const RENEWED = ["viewers", "stock", "holds", "orders", "revenue"]; // and the lag
const PLAIN = new Set(["audit", "conversion"]); // a line would say nothing
