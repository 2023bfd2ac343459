/** Run of show: products in order, their pins and offers, and what a host can do with each. */

import { byId, h, keyed, picture, setHidden, setText, toast } from "./dom.js";
import { OfferLine, closedFor, lock } from "./desk-offer.js";
import { formatMoney } from "./money.js";

const PINS_MAX = 3;

export class RunOfShow {
  constructor(desk) {
    this.desk = desk;
    this.list = byId("run-list");
    this.offerLine = new OfferLine(desk);
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
    // The announcement bar is no configuration: a freeze leaves it alone.
    this.announceTool = tool("Announce", () => desk.forms.announce());
    this.configTools = [
      tool("Add products", () => desk.forms.addProducts()),
      tool("New offer", () => desk.prepareOffer(), "primary"),
    ];
    byId("run-tools").replaceChildren(this.configTools[0], this.announceTool, this.configTools[1]);
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

  /** What the key for "open" opens: the selected product's prepared offer, else the next one. */
  nextPrepared() {
    const draft = (offer) => offer.phase === "draft";
    const own = this.offersOf(this.selected).find(draft);
    return own || this.rows.flatMap((row) => row.offers).find(draft);
  }

  /** The offer that a single key acts on: the selected product's live one, else the first live one. */
  current() {
    const live = (offer) => ["open", "paused", "scheduled"].includes(offer.phase);
    const own = this.offersOf(this.selected).find(live);
    return own || this.rows.flatMap((row) => row.offers).find(live);
  }

  render() {
    const { rows } = this;
    this.renderGuide(rows);
    this.nextId = this.desk.isHost ? this.nextPrepared()?.id : null;
    const { show } = this.desk.model;
    if (this.desk.isHost) {
      for (const button of this.configTools) lock(button, closedFor(show));
      lock(this.announceTool, closedFor({ ...show, frozen: false }));
    }
    keyed(
      this.list,
      rows,
      (row) => row.sku,
      (row) => this.createRow(row),
      (element, row) => this.updateRow(element, row),
    );
  }

  /** What is still to do before the first sale; gone with it. */
  renderGuide(rows) {
    const { show, offers } = this.desk.model;
    const all = [...offers.values()];
    const steps = [
      [rows.length > 0, "Add products to the run of show."],
      [all.length > 0, "Prepare an offer: price, units, limit. It is not public yet."],
      [show.status !== "scheduled", "Send your viewers the link, rehearse if you like, then start the show."],
      [all.some((offer) => offer.phase !== "draft"), "Open the offer. Its countdown and its stock are on every phone at once."],
    ];
    setHidden(byId("guide"), show.status === "ended" || steps.every(([done]) => done));
    keyed(
      byId("guide"),
      steps,
      ([, text]) => text,
      ([, text]) => h("li", {}, text),
      (item, [done, text]) => {
        item.dataset.done = done;
        item.setAttribute("aria-label", `${done ? "Done" : "To do"}: ${text}`);
      },
    );
  }

  createRow({ sku }) {
    const product = this.desk.productOf(sku);
    const act = (name, what) => h("button", { type: "button", class: "quiet small", "data-act": name, onclick: what });
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
        act("pin", () => this.togglePin(sku)),
        act("up", () => this.move(sku, -1)),
        act("down", () => this.move(sku, 1)),
        act("remove", () => this.remove(sku)),
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
    this.markSelected(row);
    row.setAttribute("aria-label", `${index + 1}. ${product.title}`);
    setText(part("number"), String(index + 1));
    setText(row.querySelector("h3"), product.title);
    const price = product.currency
      ? formatMoney(product.price_minor, product.currency, this.desk.language)
      : "";
    setText(part("facts"), product.currency ? `${sku} · ${price} · ${product.available} available` : sku);
    const pin = this.updateAct(row, "pin", pinned ? "📌 Pinned" : "Pin", `Pin ${product.title}`);
    pin.setAttribute("aria-pressed", pinned);
    this.updateAct(row, "up", "↑", `Move ${product.title} up`, closedFor(this.desk.model.show));
    this.updateAct(row, "down", "↓", `Move ${product.title} down`, closedFor(this.desk.model.show));
    const remove = this.updateAct(row, "remove", "✕", `Take ${product.title} out of the run of show`, closedFor(this.desk.model.show));
    setHidden(remove, !this.desk.isHost || offers.some((offer) => offer.phase !== "closed"));
    keyed(
      row.querySelector(".product-offers"),
      offers,
      (offer) => offer.id,
      () => this.offerLine.create(),
      (element, offer) => this.offerLine.update(element, offer, offer.id === this.nextId),
    );
  }

  updateAct(row, name, word, label, locked = "") {
    const button = row.querySelector(`[data-act="${name}"]`);
    setText(button, word);
    button.setAttribute("aria-label", label);
    lock(button, locked);
    if (!locked) button.title = label;
    setHidden(button, !this.desk.isHost);
    return button;
  }

  tick() {
    for (const element of this.list.querySelectorAll(".desk-offer")) {
      const offer = this.desk.model.offers.get(element.dataset.key);
      if (offer) this.offerLine.tick(element, offer);
    }
  }

  select(sku) {
    if (this.selected === sku) return;
    this.selected = sku;
    for (const row of this.list.children) this.markSelected(row);
    this.desk.draw();
  }

  markSelected(row) {
    const selected = row.dataset.key === this.selected;
    row.dataset.selected = selected;
    row.setAttribute("aria-current", selected);
  }

  focusRow(index) {
    this.list.children[index]?.focus();
  }

  togglePin(sku) {
    const { pins } = this.desk.model.show;
    if (!pins.includes(sku) && pins.length >= PINS_MAX) {
      const titles = pins.map((one) => this.desk.productOf(one).title).join(", ");
      return toast(`Three products are pinned: ${titles}. Unpin one first.`, "bad");
    }
    const skus = pins.includes(sku) ? pins.filter((one) => one !== sku) : [...pins, sku];
    return this.desk.showCall("POST", "/pins", { skus }, pins.includes(sku) ? "Unpinned" : "Pinned");
  }

  remove(sku) {
    const skus = this.desk.model.show.run_order.filter((one) => one !== sku);
    return this.desk.showCall("PUT", "/run-order", { skus }, "Taken out of the run of show");
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
