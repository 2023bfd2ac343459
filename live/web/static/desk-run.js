/** Run of show: products in order, their pins and offers, and what a host can do with each. */

import { formatRemaining } from "./clock.js";
import { byId, h, keyed, picture, setHidden, setText } from "./dom.js";
import { formatMoney } from "./money.js";

const PINS_MAX = 3;
export const PHASE_WORDS = {
  draft: "Prepared",
  scheduled: "Counting down",
  open: "Open",
  paused: "Paused",
  closing: "Closing",
  closed: "Closed",
};

// What may be done in which phase; the server has the last word.
const OFFER_ACTIONS = {
  draft: ["open", "close"],
  scheduled: ["pause", "close"],
  open: ["pause", "sold-out", "extend", "restock", "close"],
  paused: ["resume", "restock", "close"],
  closing: [],
  closed: [],
};
const ACTION_WORDS = {
  open: "Open",
  pause: "Pause",
  "sold-out": "Sold out",
  resume: "Resume",
  extend: "Extend",
  restock: "Restock",
  close: "Close",
};

export class RunOfShow {
  constructor(desk) {
    this.desk = desk;
    this.list = byId("run-list");
    this.selected = null; // sku
    this.dragged = null;
    this.list.replaceChildren();
    this.buildTools();
    this.list.onkeydown = (event) => this.keydown(event); // replaces that of a show left before
  }

  buildTools() {
    const { desk } = this;
    byId("run-tools").replaceChildren();
    if (!desk.isHost) return;
    const tool = (text, act, kind = "quiet") => h("button", { type: "button", class: kind, onclick: act }, text);
    byId("run-tools").replaceChildren(
      tool("Add product", () => desk.forms.addProduct()),
      tool("Announce", () => desk.forms.announce()),
      tool("New offer", () => desk.forms.prepareOffer(this.selected), "primary"),
    );
  }

  get rows() {
    const { show, offers } = this.desk.model;
    const skus = [...show.run_order];
    for (const offer of offers.values()) if (!skus.includes(offer.sku)) skus.push(offer.sku);
    return skus.map((sku, index) => ({ sku, index, offers: this.offersOf(sku) }));
  }

  offersOf(sku) {
    return this.desk.model.sortedOffers().filter((offer) => offer.sku === sku);
  }

  /** The prepared offer that comes next in the run of show, or undefined. */
  nextPrepared() {
    return this.rows.flatMap((row) => row.offers).find((offer) => offer.phase === "draft");
  }

  /** The offer that a single key acts on: the selected product's live one, else the first live one. */
  current() {
    const live = (offer) => ["open", "paused", "scheduled"].includes(offer.phase);
    const own = this.offersOf(this.selected).find(live);
    return own || this.rows.flatMap((row) => row.offers).find(live);
  }

  render() {
    const { rows } = this;
    setHidden(byId("run-empty"), rows.length > 0);
    keyed(
      this.list,
      rows,
      (row) => row.sku,
      (row) => this.createRow(row),
      (element, row) => this.updateRow(element, row),
    );
  }

  createRow({ sku }) {
    const product = this.desk.productOf(sku);
    const act = (name, label, what) =>
      h("button", { type: "button", class: "quiet small", "data-act": name, "aria-label": label, title: label, onclick: what });
    const row = h(
      "li",
      { class: "product", tabindex: "0", draggable: this.desk.isHost ? "true" : null },
      h("span", { class: "number", "data-part": "number" }),
      picture(product.image_url, product.title),
      h(
        "div",
        { class: "product-text" },
        h("h3", { dir: "auto" }, product.title),
        h("p", { class: "fine", "data-part": "facts" }),
      ),
      h(
        "div",
        { class: "product-act" },
        act("pin", "Pin", () => this.togglePin(sku)),
        act("up", "Move up", () => this.move(sku, -1)),
        act("down", "Move down", () => this.move(sku, 1)),
      ),
      h("ul", { class: "product-offers" }),
    );
    row.addEventListener("focusin", () => this.select(sku));
    row.addEventListener("pointerdown", () => this.select(sku));
    this.listenToDrag(row, sku);
    return row;
  }

  updateRow(row, { sku, index, offers }) {
    const { show } = this.desk.model;
    const product = this.desk.productOf(sku);
    const pinned = show.pins.includes(sku);
    const part = (name) => row.querySelector(`[data-part="${name}"]`);
    row.dataset.pinned = pinned;
    row.dataset.selected = sku === this.selected;
    setText(part("number"), String(index + 1));
    setText(row.querySelector("h3"), product.title);
    const price = product.currency
      ? formatMoney(product.price_minor, product.currency, this.desk.language)
      : "";
    setText(part("facts"), product.currency ? `${sku} · ${price} · ${product.available} available` : sku);
    const pin = row.querySelector('[data-act="pin"]');
    setText(pin, pinned ? "📌 Pinned" : "Pin");
    pin.setAttribute("aria-pressed", pinned);
    setText(row.querySelector('[data-act="up"]'), "↑");
    setText(row.querySelector('[data-act="down"]'), "↓");
    for (const button of row.querySelectorAll(".product-act button")) setHidden(button, !this.desk.isHost);
    keyed(
      row.querySelector(".product-offers"),
      offers,
      (offer) => offer.id,
      (offer) => this.createOffer(offer),
      (element, offer) => this.updateOffer(element, offer),
    );
  }

  createOffer() {
    return h(
      "li",
      { class: "desk-offer" },
      h("span", { class: "chip", "data-part": "phase" }),
      h("strong", { "data-part": "price" }),
      h("span", { class: "deadline", "data-part": "deadline" }),
      h("span", { class: "fine", "data-part": "terms" }),
      h("div", { class: "bar3", "data-part": "bar", role: "img" }, h("i", { class: "sold" }), h("i", { class: "held" })),
      h("span", { class: "counts", "data-part": "counts" }),
      h("div", { class: "row", "data-part": "acts" }),
    );
  }

  updateOffer(element, offer) {
    const part = (name) => element.querySelector(`[data-part="${name}"]`);
    const soldOut = offer.phase === "open" ? offer.left === 0 : offer.phase === "paused" && offer.sold_out;
    element.dataset.phase = offer.phase;
    part("phase").dataset.phase = soldOut ? "sold_out" : offer.phase;
    setText(part("phase"), soldOut ? "Sold out" : PHASE_WORDS[offer.phase]);
    setText(part("price"), formatMoney(offer.price_minor, offer.currency, this.desk.language));
    const mode = offer.mode === "hold" ? `hold ${offer.hold_seconds} s` : "first paid";
    setText(part("terms"), `${offer.quantity} ${offer.quantity === 1 ? "unit" : "units"} · ${offer.per_buyer_limit} each · ${mode}`);
    const counts = `${offer.left} left · ${offer.held} held · ${offer.sold} sold`;
    setText(part("counts"), offer.phase === "draft" ? "" : counts);
    const total = Math.max(1, offer.left + offer.held + offer.sold);
    part("bar").setAttribute("aria-label", counts);
    part("bar").style.setProperty("--sold", offer.sold / total);
    part("bar").style.setProperty("--held", offer.held / total);
    setHidden(part("bar"), offer.phase === "draft");
    this.updateDeadline(part("deadline"), offer);
    const actions = this.desk.isHost ? OFFER_ACTIONS[offer.phase] : [];
    keyed(
      part("acts"),
      actions.filter((name) => name !== "extend" || offer.closes_at),
      (name) => `${name} ${offer.phase}`,
      (name) => this.actionButton(name, offer),
    );
  }

  actionButton(name, offer) {
    const kind = name === "open" || name === "resume" ? "primary small" : "quiet small";
    const word = offer.phase === "draft" && name === "close" ? "Discard" : ACTION_WORDS[name];
    const label = `${word} ${offer.title}`;
    return h(
      "button",
      { type: "button", class: kind, "aria-label": label, onclick: () => this.desk.offerAction(name, offer.id) },
      word,
    );
  }

  updateDeadline(element, offer) {
    const at = offer.phase === "scheduled" ? offer.opens_at : offer.phase === "open" ? offer.closes_at : null;
    const word = offer.phase === "scheduled" ? "opens in" : "closes in";
    setText(element, at ? `${word} ${formatRemaining(at - this.desk.clock.now())}` : "");
  }

  tick() {
    for (const element of this.list.querySelectorAll(".desk-offer")) {
      const offer = this.desk.model.offers.get(element.dataset.key);
      if (offer) this.updateDeadline(element.querySelector('[data-part="deadline"]'), offer);
    }
  }

  select(sku) {
    if (this.selected === sku) return;
    this.selected = sku;
    for (const row of this.list.children) row.dataset.selected = row.dataset.key === sku;
  }

  focusRow(index) {
    this.list.children[index]?.focus();
  }

  togglePin(sku) {
    const { pins } = this.desk.model.show;
    const skus = pins.includes(sku) ? pins.filter((one) => one !== sku) : [...pins, sku].slice(-PINS_MAX);
    return this.desk.showCall("POST", "/pins", { skus }, pins.includes(sku) ? "Unpinned" : "Pinned");
  }

  move(sku, by) {
    const order = this.rows.map((row) => row.sku);
    const from = order.indexOf(sku);
    const to = from + by;
    if (to < 0 || to >= order.length) return;
    order.splice(to, 0, ...order.splice(from, 1));
    this.reorder(order, sku, `Place ${to + 1} of ${order.length}`);
  }

  /** Show the new order at once; what the server answers is what stays. */
  async reorder(skus, sku, said) {
    this.desk.model.show = { ...this.desk.model.show, run_order: skus };
    this.render();
    [...this.list.children].find((row) => row.dataset.key === sku)?.focus();
    await this.desk.showCall("PUT", "/run-order", { skus }, said);
  }

  keydown(event) {
    const row = event.target.closest(".product");
    if (!row || event.target !== row) return;
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    if (event.altKey && this.desk.isHost) this.move(row.dataset.key, by);
    else (by < 0 ? row.previousElementSibling : row.nextElementSibling)?.focus();
  }

  listenToDrag(row, sku) {
    row.addEventListener("dragstart", (event) => {
      this.dragged = sku;
      event.dataTransfer.effectAllowed = "move";
      row.classList.add("dragged");
    });
    row.addEventListener("dragend", () => {
      this.dragged = null;
      row.classList.remove("dragged");
    });
    row.addEventListener("dragover", (event) => this.dragged && event.preventDefault());
    row.addEventListener("drop", (event) => {
      event.preventDefault();
      if (!this.dragged || this.dragged === sku) return;
      const order = this.rows.map((one) => one.sku);
      const to = order.indexOf(sku);
      order.splice(to, 0, ...order.splice(order.indexOf(this.dragged), 1));
      this.reorder(order, this.dragged, `Place ${to + 1} of ${order.length}`);
    });
  }
}
