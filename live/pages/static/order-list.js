/**
 * The list of orders: filters, search, selection, pages, and what changes while one looks at it.
 *
 * Always: rows that are there stay where they are and change in place. New orders come in by
 * themselves only while nobody is busy with the list; else a button counts them.
 */

import { get } from "./api.js";
import { byId, h, keyed, setHidden, setText } from "./dom.js";
import { cellsOf } from "./order-row.js";
import { matches } from "./order-sums.js";
import { FULFILMENT_WORDS, ORDER_WORDS, shortId } from "./order-words.js";

const SHOWS_MAX = 200; // in the choice of shows; others by the console's "Orders"
const SEARCH_PAGES_MAX = 25; // that one press on "Search older orders" reads
const SEARCH_LIMIT = 200;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const FILTERS = ["show", "state", "fulfilment", "buyer"];

export class OrderList {
  constructor(page) {
    this.page = page;
    this.form = byId("filters");
    this.box = byId("list");
    this.clear();
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", ({ target }) => target.name !== "search" && this.load());
    this.form.elements.search.addEventListener("input", () => this.searched());
    this.box.addEventListener("keydown", (event) => this.keydown(event));
    byId("all").onchange = ({ target }) => this.pickAll(target.checked);
    byId("more").onclick = () => page.attempt(() => this.older());
    byId("fresh").onclick = () => (this.lost ? this.load() : this.takeFresh());
    byId("reload").onclick = () => this.load();
    document.addEventListener("keydown", (event) => this.shortcut(event));
  }

  clear() {
    this.orders = new Map(); // by id: what the list can show
    this.fresh = new Map(); // new ones that wait for a press on the button
    this.picked = new Set();
    this.next = null;
    this.lost = false;
    this.buyer = "";
    this.box.replaceChildren();
  }

  known(id) {
    return this.orders.get(id) || this.fresh.get(id);
  }

  get filters() {
    const { show, state, fulfilment } = this.form.elements;
    return { show: show.value, state: state.value, fulfilment: fulfilment.value, buyer: this.buyer };
  }

  get text() {
    return this.form.elements.search.value.trim().toLowerCase();
  }

  /** Of those that are here, the ones that the search leaves, the newest first. */
  get shown() {
    const { text } = this;
    const found = [...this.orders.values()].filter((order) => !text || matches(order, text));
    return found.sort((a, b) => b.created_at - a.created_at);
  }

  /** The first time: fill the choices, and take from the address what was chosen before. */
  async open(asked) {
    const { state, fulfilment } = this.form.elements;
    state.replaceChildren(new Option("Any", ""), ...optionsOf(ORDER_WORDS));
    fulfilment.replaceChildren(new Option("Any", ""), ...optionsOf(FULFILMENT_WORDS));
    await this.openShows(asked.get("show"));
    for (const name of ["state", "fulfilment"]) {
      const wanted = asked.get(name);
      if ([...this.form.elements[name].options].some(({ value }) => value === wanted)) this.form.elements[name].value = wanted;
    }
    this.buyer = asked.get("buyer") || "";
    if (asked.get("search")) this.form.elements.search.value = asked.get("search");
    await this.read();
  }

  async openShows(asked) {
    const { items } = await get(`/v1/shows?limit=${SHOWS_MAX}`);
    const { show } = this.form.elements;
    const options = items.map(({ id, title }) => new Option(title, id));
    if (asked && !items.some(({ id }) => id === asked)) options.unshift(new Option(asked, asked));
    if (this.page.login.everywhere) options.unshift(new Option("All shows", ""));
    show.replaceChildren(...options);
    if (asked) show.value = asked;
  }

  load() {
    return this.page.attempt(() => this.read());
  }

  /** The first page, by what is chosen now. */
  async read() {
    const { filters } = this;
    if (!filters.show && !this.page.login.everywhere) return this.nothing("Your token covers no show that is there yet.");
    const wish = (this.wish = Symbol("list")); // of several choices in a row the last one counts
    const { items, next } = await this.page.page(filters);
    if (this.wish !== wish) return undefined;
    const { buyer } = this;
    this.clear();
    this.buyer = buyer;
    this.next = next;
    for (const order of items) this.orders.set(order.order, order);
    this.keepInAddress(filters);
    this.page.follow(filters);
    return this.searched();
  }

  keepInAddress(filters) {
    const asked = FILTERS.filter((name) => filters[name]).map((name) => [name, filters[name]]);
    history.replaceState(null, "", `?${new URLSearchParams(asked)}`);
    byId("console").href = filters.show ? `/console?show=${encodeURIComponent(filters.show)}` : "/console";
  }

  nothing(text) {
    setText(byId("empty"), text);
    setHidden(byId("empty"), false);
  }

  async older(limit) {
    const { wish } = this;
    const { items, next } = await this.page.page(this.filters, this.next, limit);
    if (this.wish !== wish) return;
    this.next = next;
    for (const order of items) if (!this.orders.has(order.order)) this.orders.set(order.order, order);
    this.render();
  }

  /** What changed, by whoever. */
  heard(orders) {
    for (const order of orders) {
      const before = this.known(order.order);
      if (before && before.updated_at > order.updated_at) continue;
      if (this.orders.has(order.order)) this.orders.set(order.order, order);
      else if (this.isNew(order)) this.fresh.set(order.order, order);
    }
    if (this.fresh.size && !this.isBusy) this.takeFresh();
    else this.render();
    this.page.detail.renew();
  }

  /** Not one of an older page that was not read, and none that is not asked for. */
  isNew(order) {
    const { show, state, fulfilment, buyer } = this.filters;
    const asked = [[show, order.show], [state, order.state], [fulfilment, order.fulfilment], [buyer, order.sub]];
    const newest = Math.max(0, ...[...this.orders.values()].map(({ created_at: at }) => at));
    return asked.every(([wanted, value]) => !wanted || wanted === value) && order.created_at >= newest;
  }

  get isBusy() {
    return this.picked.size > 0 || this.text || this.box.matches(":hover, :focus-within") || byId("box").open;
  }

  takeFresh() {
    for (const [id, order] of this.fresh) this.orders.set(id, order);
    this.fresh.clear();
    this.render();
  }

  /** More changed than we can follow, as in the seconds of a sale. */
  behind() {
    this.lost = true;
    this.render();
  }

  searched() {
    const { text } = this;
    this.hits = null;
    if (UUID.test(text) && !this.orders.has(text)) this.page.attempt(() => this.find(text));
    this.render();
  }

  /** An order by its whole number, wherever it is. */
  async find(id) {
    const order = await get(`/v1/orders/${id}`);
    this.orders.set(id, order);
    this.render();
  }

  /** All pages, up to a bound: what the API cannot search is searched here. */
  async searchOlder() {
    for (let page = 0; page < SEARCH_PAGES_MAX && this.next; page += 1) await this.older(SEARCH_LIMIT);
  }

  onlyBuyer(sub) {
    this.buyer = sub;
    this.form.elements.search.value = "";
    return this.load();
  }

  render() {
    const { shown } = this;
    keyed(this.box, shown, ({ order }) => order, (order) => this.create(order), (row, order) => this.update(row, order));
    setHidden(byId("more"), !this.next);
    setHidden(byId("empty"), shown.length > 0);
    if (!shown.length) this.nothing(this.text ? "None of the orders loaded here has this text." : "No orders yet, or none like this.");
    setText(byId("fresh"), this.lost ? "Many orders have changed: load again" : `Show ${this.fresh.size} new`);
    setHidden(byId("fresh"), !this.lost && !this.fresh.size);
    this.renderSearched(shown);
    this.renderPicked(shown);
  }

  /** Says truly how far the search reached, and offers the rest. */
  renderSearched(shown) {
    const parts = [];
    const size = this.orders.size;
    if (this.buyer) parts.push(h("span", {}, "Orders of the buyer ", h("bdi", {}, this.buyer)), this.small("Of everybody", () => this.onlyBuyer("")));
    if (this.text) {
      const reach = this.next ? `${shown.length} of the ${size} newest orders loaded here` : `${shown.length} of ${size} orders: all there are`;
      parts.push(h("span", {}, reach));
      if (this.next) parts.push(this.small("Search older orders", () => this.page.attempt(() => this.searchOlder())));
      const typed = this.form.elements.search.value.trim();
      if (typed !== this.buyer) parts.push(this.small(`All of the buyer named exactly “${typed}”`, () => this.onlyBuyer(typed)));
    }
    const key = parts.map((one) => one.textContent).join("|");
    if (byId("searched").dataset.key === key) return;
    byId("searched").dataset.key = key;
    byId("searched").replaceChildren(...parts);
  }

  small(label, act) {
    return h("button", { type: "button", class: "quiet small", onclick: act }, label);
  }

  renderPicked(shown) {
    for (const id of this.picked) if (!this.orders.has(id)) this.picked.delete(id);
    const n = this.picked.size;
    setText(byId("all-text"), n ? `${n} selected` : "Select all shown");
    byId("all").checked = n > 0 && shown.every(({ order }) => this.picked.has(order));
    setText(byId("slips"), n ? `Packing slips (${n})` : "Packing slips");
    byId("slips").setAttribute("aria-disabled", String(n === 0));
  }

  pickAll(on) {
    this.picked = new Set(on ? this.shown.map(({ order }) => order) : []);
    this.render();
  }

  create({ order }) {
    const pick = h("input", { type: "checkbox", "aria-label": `Select order ${shortId(order)}` });
    pick.onchange = () => {
      if (pick.checked) this.picked.add(order);
      else this.picked.delete(order);
      this.renderPicked(this.shown);
    };
    const open = h("button", { type: "button", class: "open", onclick: () => this.page.detail.open(order) });
    return h("li", { class: "order-row" }, h("label", { class: "pick-one" }, pick), open);
  }

  update(row, order) {
    const [label, open] = row.children;
    label.firstChild.checked = this.picked.has(order.order);
    row.dataset.open = this.page.detail.id === order.order;
    open.setAttribute("aria-current", row.dataset.open);
    if (row.dataset.drawn === `${order.updated_at}`) return;
    row.dataset.drawn = order.updated_at;
    open.replaceChildren(...cellsOf(order, this.page.language));
  }

  keydown(event) {
    const by = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
    const row = event.target.closest(".order-row");
    if (!by || !row) return;
    event.preventDefault();
    row[by]?.querySelector(".open").focus();
  }

  shortcut(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || byId("box").open) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    event.preventDefault();
    this.form.elements.search.focus();
  }

  focus(id) {
    const row = [...this.box.children].find((one) => one.dataset.key === id);
    (row?.querySelector(".open") || this.box).focus();
  }
}

const optionsOf = (words) => Object.entries(words).map(([value, text]) => new Option(text, value));
