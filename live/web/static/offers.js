/** Offer cards: what is on sale, until when, how many are left, and the button. */

import { formatRemaining } from "./clock.js";
import { h, keyed, picture, setHidden, setText } from "./dom.js";
import { formatMoney } from "./money.js";

const FEW = 5; // units; from here on the number turns red
const SOON_MS = 10_000;
const COUNTING = new Set(["scheduled", "open", "paused"]);

export class OfferList {
  constructor(list, viewer) {
    this.list = list;
    this.viewer = viewer;
    this.quantities = new Map(); // offer id -> units the viewer has chosen
  }

  get text() {
    return this.viewer.text;
  }

  /** Draw every card anew: the language has changed. */
  forget() {
    this.list.replaceChildren();
  }

  render() {
    const offers = this.viewer.model.sortedOffers().filter((offer) => offer.phase !== "draft");
    keyed(
      this.list,
      offers,
      (offer) => offer.id,
      (offer) => this.create(offer),
      (card, offer) => this.update(card, offer),
    );
    setHidden(document.getElementById("no-offers"), offers.length > 0);
  }

  create(offer) {
    const part = (name, tag = "span") => h(tag, { class: name, "data-part": name });
    const button = (name, act) => h("button", { type: "button", class: name, "data-part": name, onclick: act });
    const step = (name, sign, by) =>
      h(
        "button",
        { type: "button", class: "step", "aria-label": this.text.say(name), onclick: () => this.step(offer.id, by) },
        sign,
      );
    return h(
      "li",
      { class: "offer" },
      picture(offer.image_url, offer.title),
      h(
        "div",
        { class: "offer-text" },
        part("badge"),
        h("h3", { class: "name" }, part("title", "bdi")),
        h("p", { class: "price-line" }, part("price", "strong"), part("limit")),
        h("p", { class: "facts" }, part("deadline"), part("left"), part("sold")),
        h("div", { class: "stock", "data-part": "stock", "aria-hidden": "true" }, h("i")),
      ),
      h(
        "div",
        { class: "offer-act" },
        h(
          "div",
          { class: "quantity", "data-part": "quantity", role: "group", "aria-label": this.text.say("quantity") },
          step("fewer", "−", -1),
          part("units", "output"),
          step("more", "+", 1),
        ),
        button("buy primary", () => this.viewer.purchase.buy(offer.id, this.units(offer.id))),
        part("note", "p"),
        button("leave quiet", () => this.viewer.purchase.waitlist.leave(offer.id)),
      ),
    );
  }

  units(id) {
    const offer = this.viewer.model.offers.get(id);
    return Math.max(1, Math.min(this.quantities.get(id) || 1, offer.per_buyer_limit));
  }

  step(id, by) {
    this.quantities.set(id, Math.max(1, this.units(id) + by));
    this.render();
  }

  update(card, offer) {
    const part = (name) => card.querySelector(`[data-part~="${name}"]`);
    const say = (key, values) => this.text.say(key, values);
    const pinned = this.viewer.model.show.pins.includes(offer.sku);
    card.dataset.phase = offer.phase;
    card.dataset.pinned = pinned;
    setText(part("title"), offer.title);
    setText(part("badge"), pinned ? say("pinned") : "");
    setText(part("price"), formatMoney(offer.price_minor, offer.currency, this.text.language));
    setText(part("limit"), offer.phase === "closed" ? "" : say("per_buyer", { n: offer.per_buyer_limit }));
    this.updateStock(part, offer);
    this.updateAction(part, offer);
    this.updateDeadline(part("deadline"), offer);
  }

  updateStock(part, offer) {
    const selling = offer.phase !== "closed" && offer.phase !== "scheduled";
    const few = offer.left > 0 && offer.left <= FEW;
    setText(part("left"), selling && offer.left > 0 ? this.text.say("left_count", { n: offer.left }) : "");
    part("left").dataset.few = few;
    setText(part("sold"), offer.sold > 0 ? this.text.say("sold_count", { n: offer.sold }) : "");
    const total = offer.left + offer.held + offer.sold;
    setHidden(part("stock"), !selling || total === 0);
    part("stock").style.setProperty("--left", total ? offer.left / total : 0);
  }

  updateAction(part, offer) {
    const { model, purchase } = this.viewer;
    const waiting = model.waiting.get(offer.id);
    const open = offer.phase === "open";
    const soldOut = open && offer.left === 0;
    const canWait = soldOut && offer.waitlist && !waiting;
    const buy = part("buy");
    const units = this.units(offer.id);
    setText(part("units"), String(units));
    setHidden(part("quantity"), !open || soldOut || offer.per_buyer_limit < 2);
    setText(buy, this.text.say(canWait ? "join_waitlist" : "buy"));
    setHidden(buy, Boolean(waiting) || offer.phase === "closed" || offer.phase === "closing");
    buy.disabled = purchase.busy.has(offer.id) || !(open && (!soldOut || canWait));
    buy.dataset.busy = purchase.busy.has(offer.id);
    setText(part("note"), this.note(offer, { waiting, soldOut }));
    setText(part("leave"), this.text.say("leave_waitlist"));
    setHidden(part("leave"), !waiting);
  }

  note(offer, { waiting, soldOut }) {
    if (waiting?.position) return this.text.say("waiting_at", { n: waiting.position });
    if (waiting) return this.text.say("waiting");
    if (soldOut) return this.text.say(offer.held > 0 ? "all_held" : "state_sold_out");
    if (offer.phase === "open") return "";
    if (offer.phase === "paused" && offer.sold_out) return this.text.say("state_sold_out");
    if (offer.phase === "closed" && offer.left === 0 && offer.sold > 0) return this.text.say("state_sold_out");
    return this.text.say(`state_${offer.phase}`);
  }

  /** What counts down for an offer: `{text, soon}`, an empty text where nothing does. */
  deadline(offer) {
    const opening = offer.phase === "scheduled";
    const at = opening ? offer.opens_at : offer.closes_at;
    if (!at || !COUNTING.has(offer.phase)) return { text: "", soon: false };
    const rest = at - this.viewer.clock.now();
    const time = formatRemaining(rest);
    return { text: this.text.say(opening ? "opens_in" : "closes_in", { time }), soon: rest < SOON_MS };
  }

  updateDeadline(element, offer) {
    const { text, soon } = this.deadline(offer);
    setText(element, text);
    element.dataset.soon = soon;
  }

  tick() {
    for (const card of this.list.children) {
      const offer = this.viewer.model.offers.get(card.dataset.key);
      if (offer) this.updateDeadline(card.querySelector('[data-part="deadline"]'), offer);
    }
  }
}
