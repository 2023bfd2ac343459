/** One offer's card: price, stock, time, and the one thing that this viewer can do with it. */

import { h, picture, setDisabled, setHidden, setText } from "./dom.js";

const FEW_MAX = 5; // units; beyond it nobody needs to hurry
const FEW_PART = 0.25; // of all that there were

/** Whether so few are left that the number turns red: a full offer of five is not "few". */
export function isFew({ left, held, sold }) {
  return left > 0 && left <= Math.min(FEW_MAX, (left + held + sold) * FEW_PART);
}

export class OfferCard {
  constructor(list) {
    this.list = list;
    this.viewer = list.viewer;
    this.quantities = new Map(); // offer id -> units that the viewer has chosen
  }

  say(key, values) {
    return this.list.say(key, values);
  }

  create(offer) {
    const part = (name, tag = "span") => h(tag, { class: name, "data-part": name });
    const button = (name, act) => h("button", { type: "button", class: name, "data-part": name.split(" ")[0], onclick: act });
    const step = (name, sign, by) =>
      h("button", { type: "button", class: "step", "data-part": name, onclick: () => this.step(offer.id, by) }, sign);
    const { language } = this.viewer.model.show;
    return h(
      "li",
      { class: "offer" },
      picture(offer.image_url, offer.title),
      h(
        "div",
        { class: "offer-text" },
        part("badge"),
        h("h3", { class: "name", lang: language }, part("title", "bdi")),
        h("p", { class: "price-line" }, part("price", "strong"), part("limit")),
        h("p", { class: "facts" }, part("deadline"), part("left"), part("sold")),
        h("div", { class: "stock", "data-part": "stock", "aria-hidden": "true" }, h("i")),
      ),
      h(
        "div",
        { class: "offer-act" },
        part("note", "p"),
        h(
          "div",
          { class: "quantity", "data-part": "quantity", role: "group" },
          step("fewer", "−", -1),
          part("units", "output"),
          step("more", "+", 1),
        ),
        button("buy primary", ({ currentTarget }) => this.act(offer.id, currentTarget)),
        button("leave quiet", () => this.viewer.purchase.waitlist.leave(offer.id)),
      ),
    );
  }

  /** How many more the viewer may take. */
  room(offer) {
    return Math.max(0, offer.per_buyer_limit - this.viewer.model.unitsOf(offer.id));
  }

  units(offer) {
    return Math.max(1, Math.min(this.quantities.get(offer.id) || 1, this.room(offer)));
  }

  step(id, by) {
    const offer = this.viewer.model.offers.get(id);
    this.quantities.set(id, Math.max(1, this.units(offer) + by));
    this.list.render();
  }

  /** A press on the card's one button. */
  act(id, button) {
    const { model, purchase } = this.viewer;
    if (!this.viewer.visitor.mayBuy(model.offers.get(id))) return this.viewer.visitor.signIn();
    purchase.pressed = button;
    const hold = model.holdOf(id);
    if (hold) return purchase.openHold(hold);
    return purchase.buy(id, this.units(model.offers.get(id)));
  }

  update(card, offer) {
    const part = (name) => card.querySelector(`[data-part="${name}"]`);
    const { show } = this.viewer.model;
    const pinned = show.pins.includes(offer.sku);
    card.dataset.phase = offer.phase;
    card.dataset.pinned = pinned;
    setText(part("title"), offer.title);
    setText(part("badge"), pinned ? this.say("pinned") : "");
    setText(part("price"), this.list.money(offer));
    setText(part("limit"), this.say("per_buyer", { n: offer.per_buyer_limit }));
    this.updateStock(part, offer);
    this.updateAction(card, part, offer);
    this.tick(card, offer);
  }

  updateStock(part, offer) {
    const { left, held, sold } = offer;
    const selling = offer.phase !== "scheduled" && !offer.sold_out;
    setText(part("left"), selling && left > 0 ? this.say("left_count", { n: left }) : "");
    part("left").dataset.few = isFew(offer);
    setText(part("sold"), sold > 0 ? this.say("sold_count", { n: sold }) : "");
    const total = left + held + sold;
    setHidden(part("stock"), !selling || total === 0);
    part("stock").style.setProperty("--left", total ? left / total : 0);
  }

  /** Exactly one of: check out, buy, join the waitlist, leave it - or words why there is nothing. */
  updateAction(card, part, offer) {
    const { model, purchase, over, visitor } = this.viewer;
    const signIn = !visitor.mayBuy(offer);
    const hold = model.holdOf(offer.id);
    const waiting = model.waiting.get(offer.id);
    const room = this.room(offer);
    const open = offer.phase === "open";
    const soldOut = offer.sold_out || (open && offer.left === 0);
    const canWait = open && soldOut && offer.waitlist;
    const buy = part("buy");
    const paying = hold?.state === "paying" && purchase.checkout.step(hold.hold);
    const label = paying || (hold ? "check_out" : signIn ? "sign_in" : canWait ? "join_waitlist" : "buy");
    card.dataset.mine = hold ? "held" : waiting ? "waiting" : room === 0 ? "full" : "";
    setText(buy, this.say(label));
    this.name(buy, this.say(label), offer);
    const shut = soldOut ? !canWait : offer.phase === "closing";
    setHidden(buy, over || (!hold && (Boolean(waiting) || room === 0 || shut)));
    setDisabled(buy, purchase.busy.has(offer.id) || !(hold || open) || (signIn && !visitor.signInUrl));
    buy.dataset.busy = purchase.busy.has(offer.id);
    setText(part("units"), this.list.text.number.format(this.units(offer)));
    setHidden(part("quantity"), over || signIn || Boolean(hold) || !open || soldOut || room < 2);
    part("quantity").setAttribute("aria-label", `${this.say("quantity")}: ${offer.title}`);
    for (const name of ["fewer", "more"]) this.name(part(name), this.say(name), offer);
    setText(part("leave"), this.say("leave_waitlist"));
    this.name(part("leave"), this.say("leave_waitlist"), offer);
    setHidden(part("leave"), !waiting || Boolean(hold) || over);
  }

  /** Whoever hears the page hears one button after the other: each names its product. */
  name(button, action, { title }) {
    const label = `${action}: ${title}`;
    if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
  }

  note(offer) {
    const { model, purchase } = this.viewer;
    const hold = model.holdOf(offer.id);
    const waiting = model.waiting.get(offer.id);
    if (hold?.state === "held") return this.say("own_hold", { time: purchase.remaining(hold) });
    if (hold) return "";
    if (waiting?.position) return this.say("waiting_at", { n: waiting.position });
    if (waiting) return this.say("waiting");
    return [this.own(offer), this.state(offer)].filter(Boolean).join(" · ");
  }

  own(offer) {
    const n = this.viewer.model.unitsOf(offer.id);
    if (n === 0) return "";
    return this.say(this.room(offer) === 0 ? "own_full" : "own_some", { n });
  }

  state(offer) {
    if (offer.phase === "open" && offer.left > 0) return "";
    if (offer.phase === "open") return this.say(offer.held > 0 ? "all_held" : "state_sold_out");
    if (offer.phase === "paused" && offer.sold_out) return this.say("state_sold_out");
    return this.say(`state_${offer.phase}`);
  }

  tick(card, offer) {
    const element = card.querySelector('[data-part="deadline"]');
    const { text, soon } = this.list.deadline(offer);
    setText(element, text);
    element.dataset.soon = soon;
    setText(card.querySelector('[data-part="note"]'), this.note(offer));
  }
}
