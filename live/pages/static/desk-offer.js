/** One offer in the run of show: its phase, its figures, and what a host can do with it. */

import { formatRemaining } from "./clock.js";
import { h, keyed, setDisabled, setHidden, setText } from "./dom.js";
import { formatMoney } from "./money.js";

const PHASE_WORDS = {
  draft: "Prepared",
  scheduled: "Counting down",
  open: "Open",
  paused: "Paused",
  closing: "Closing",
  closed: "Closed",
};

// What may be done in which phase; the server has the last word.
const OFFER_ACTIONS = {
  draft: ["open", "edit", "close"],
  scheduled: ["pause", "close"],
  open: ["pause", "sold-out", "extend", "restock", "close"],
  paused: ["resume", "restock", "close"],
  closing: [],
  closed: [],
};
const ACTION_WORDS = {
  open: "Open",
  edit: "Edit",
  pause: "Pause",
  "sold-out": "Mark sold out",
  resume: "Resume",
  extend: "Extend",
  restock: "Restock",
  close: "Close",
};
// One button changes its word and keeps its place, and with it the focus.
const FLOW = new Set(["open", "pause", "resume"]);

export class OfferLine {
  constructor(desk) {
    this.desk = desk;
  }

  create() {
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

  update(element, offer, isNext) {
    const part = (name) => element.querySelector(`[data-part="${name}"]`);
    const soldOut = offer.phase === "open" ? offer.left === 0 : offer.phase === "paused" && offer.sold_out;
    const allHeld = offer.phase === "open" && soldOut && offer.held > 0;
    element.dataset.phase = offer.phase;
    element.dataset.next = isNext;
    part("phase").dataset.phase = soldOut ? "sold_out" : offer.phase;
    setText(part("phase"), allHeld ? "All held" : soldOut ? "Sold out" : PHASE_WORDS[offer.phase]);
    setText(part("price"), formatMoney(offer.price_minor, offer.currency, this.desk.language));
    const mode = offer.mode === "hold" ? `hold ${offer.hold_seconds} s` : "first paid";
    setText(part("terms"), `${offer.quantity} ${offer.quantity === 1 ? "unit" : "units"} · ${offer.per_buyer_limit} each · ${mode}`);
    // What was left when an offer closed went back to the product.
    const counts = offer.phase === "closed" ? `${offer.sold} sold` : `${offer.left} left · ${offer.held} held · ${offer.sold} sold`;
    setText(part("counts"), offer.phase === "draft" ? "" : counts);
    const total = Math.max(1, offer.left + offer.held + offer.sold);
    part("bar").setAttribute("aria-label", counts);
    part("bar").style.setProperty("--sold", offer.sold / total);
    part("bar").style.setProperty("--held", offer.held / total);
    setHidden(part("bar"), offer.phase === "draft");
    this.deadline(part("deadline"), offer);
    const actions = this.desk.isHost ? OFFER_ACTIONS[offer.phase] : [];
    keyed(
      part("acts"),
      actions.filter((name) => this.offers(name, offer)),
      (name) => (FLOW.has(name) ? "flow" : name),
      () => h("button", { type: "button" }),
      (button, name) => this.updateAction(button, name, offer),
    );
  }

  /** Whether an action makes sense for an offer as it stands. */
  offers(name, offer) {
    if (name === "extend") return Boolean(offer.closes_at);
    return name !== "sold-out" || offer.left > 0 || offer.held > 0;
  }

  updateAction(button, name, offer) {
    const word = offer.phase === "draft" && name === "close" ? "Discard" : ACTION_WORDS[name];
    button.className = name === "open" || name === "resume" ? "primary small" : "quiet small";
    button.setAttribute("aria-label", `${word} ${offer.title}`);
    button.onclick = () => this.desk.offerAction(name, offer.id);
    setText(button, word);
    lock(button, name === "edit" ? closedFor(this.desk.model.show) : ""); // the rest a freeze allows
  }

  tick(element, offer) {
    this.deadline(element.querySelector('[data-part="deadline"]'), offer);
  }

  deadline(element, offer) {
    const at = offer.phase === "scheduled" ? offer.opens_at : offer.phase === "open" ? offer.closes_at : null;
    const word = offer.phase === "scheduled" ? "opens in" : "closes in";
    setText(element, at ? `${word} ${formatRemaining(at - this.desk.clock.now())}` : "");
  }
}

/** Why nothing may be configured now, or "". */
export function closedFor(show) {
  if (show.status === "ended") return "The show is over";
  return show.frozen ? "The configuration is frozen" : "";
}

export function lock(button, why) {
  setDisabled(button, why !== "");
  button.title = why;
}
