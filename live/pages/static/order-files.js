/** What leaves the orders page: packing slips on paper, and a table for a spreadsheet. */

import { get } from "./api.js";
import { check, choice } from "./dialog.js";
import { byId, h, setHidden, toast } from "./dom.js";
import { LANGUAGES, Translator, chooseLanguage, direction } from "./i18n.js";
import { exportOrders } from "./order-csv.js";
import { slipOf } from "./order-slip.js";
import { matches } from "./order-sums.js";
import { saveText } from "./save.js";

export class Files {
  constructor(page) {
    this.page = page;
    byId("slips").onclick = () => this.slips(page.list.shown.filter(({ order }) => page.list.picked.has(order)));
    byId("csv").onclick = () => this.csv();
    addEventListener("afterprint", () => this.putAway());
  }

  /** `items`: of one parcel alone; else what is still to be sent, or all where nothing is. */
  async slips(orders, items = null) {
    if (!orders.length) return;
    const language = await this.languageOf(orders[0].show);
    this.page.forms.open({
      title: orders.length === 1 ? "Print a packing slip" : `Print ${orders.length} packing slips`,
      text: "Each order begins a page of its own.",
      fields: [choice("language", "Language", Object.entries(LANGUAGES), language), check("prices", "With prices", false)],
      submit: "Print",
      send: async (values) => {
        const text = await Translator.load(values.get("language"));
        await text.learn("orders");
        this.lay(orders.map((order) => slipOf(order, { text, items, prices: values.has("prices") })), text.language);
        // When the dialog is gone: a browser prints what is modal, too.
        setTimeout(() => print());
      },
    });
  }

  /** The buyers' language is the show's, as far as slips are made in it. */
  async languageOf(show) {
    const found = await get(`/v1/shows/${encodeURIComponent(show)}`).catch(() => null);
    return chooseLanguage([found?.language, this.page.language]);
  }

  lay(slips, language) {
    const paper = byId("paper");
    paper.lang = language;
    paper.dir = direction(language);
    paper.replaceChildren(...slips);
    setHidden(paper, false);
  }

  putAway() {
    setHidden(byId("paper"), true);
    byId("paper").replaceChildren();
  }

  /** All pages of what the filters ask and the search leaves, with the number of orders so far. */
  csv() {
    const { list } = this.page;
    const { filters, text } = list;
    const ending = new AbortController();
    const count = h("output", { role: "status" });
    byId("box").addEventListener("close", () => ending.abort(), { once: true });
    this.page.forms.open({
      title: "Download orders as CSV",
      text: "One row for each line of an order, by the filters and the search as they are now, older pages included. Names and addresses are personal data: keep the file no longer than you need it.",
      fields: [count],
      submit: "Download",
      send: async () => {
        const found = await exportOrders({
          read: (cursor, limit) => this.page.page(filters, cursor, limit),
          keeps: (order) => !text || matches(order, text),
          tell: (n) => (count.textContent = `${n} orders so far`),
          signal: ending.signal,
        });
        if (!found) return false; // the dialog was closed
        saveText(found.parts.join(""), `orders-${filters.show || "all"}-${new Date().toISOString().slice(0, 10)}.csv`, "text/csv");
        toast(found.complete ? `${found.orders} orders saved` : `The newest ${found.orders} orders saved; older ones are not in the file.`);
        return true;
      },
    });
  }
}
