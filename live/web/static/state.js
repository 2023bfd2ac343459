/**
 * A show as one page knows it: the snapshot of the connect answer, then every event folded in.
 *
 * Always: objects are whole and absolute, so folding one twice is harmless; an object with an older
 * `version` than the known one is ignored; figures of stock follow the newest `at`.
 * Pure: no clock, no page, no network.
 */

const CHAT_LINES_MAX = 200; // what a person can scroll back; older lines leave the page

const HOLD_OVER = new Set(["confirmed", "released", "expired"]);
const PHASE_RANK = { open: 0, scheduled: 1, paused: 2, closing: 3, draft: 4, closed: 5 };

export class ShowModel {
  constructor() {
    this.show = null;
    this.offers = new Map(); // id -> offer
    this.figuresAt = new Map(); // offer id -> `at` of the figures shown
    this.viewers = 0;
    this.pulseAt = 0;
    this.reactions = {};
    this.chat = [];
    this.pinned = null; // {id, text} of the pinned chat line
    this.holds = new Map(); // key -> hold that is still alive
    this.waiting = new Map(); // offer id -> {offer, qty, position, key}
    this.orders = new Map(); // order id -> order
    this.meAt = 0; // when the snapshot of holds and orders was taken
  }

  /** Take a snapshot: `{show, me, time}` of a connect answer or of `show.state`. */
  welcome({ show, me, time = 0 }) {
    if (show) this.takeShow(show, time);
    if (show?.offers && show.version >= this.show.version) this.forgetOffers(show.offers);
    if (!me) return;
    this.meAt = time;
    this.holds = new Map();
    for (const hold of me.holds || []) this.takeHold(hold);
    this.waiting = new Map((me.waitlist || []).map((entry) => [entry.offer, entry]));
    for (const order of me.orders || []) this.takeOrder(order, time);
  }

  takeShow(show, at) {
    if (this.show && show.version < this.show.version) return;
    this.show = { ...show, pins: show.pins || [], run_order: show.run_order || [] };
    for (const offer of show.offers || []) this.takeOffer(offer, at);
  }

  forgetOffers(kept) {
    const ids = new Set(kept.map((offer) => offer.id));
    for (const id of this.offers.keys()) if (!ids.has(id)) this.offers.delete(id);
  }

  takeOffer(offer, at) {
    const known = this.offers.get(offer.id);
    if (known && offer.version < known.version) return;
    const stale = known && at < (this.figuresAt.get(offer.id) || 0);
    const { left, held, sold } = stale ? known : offer;
    this.offers.set(offer.id, { ...offer, left, held, sold });
    if (!stale) this.figuresAt.set(offer.id, at);
  }

  takeFigures({ id, left, held, sold }, at) {
    const offer = this.offers.get(id);
    if (!offer || at < (this.figuresAt.get(id) || 0)) return;
    this.offers.set(id, { ...offer, left, held, sold });
    this.figuresAt.set(id, at);
  }

  takeHold(hold) {
    if (HOLD_OVER.has(hold.state)) this.holds.delete(hold.hold);
    else this.holds.set(hold.hold, hold);
  }

  takeOrder(order, at) {
    // Recovery replays what the snapshot holds already, perhaps in a later state.
    if (at < this.meAt && this.orders.has(order.order)) return;
    this.orders.set(order.order, order);
    this.holds.delete(order.hold);
  }

  /** Fold one event; returns which part of the page it concerns. */
  fold(event) {
    const [group] = event.type.split(".");
    const part = FOLDS[event.type] || FOLDS[group];
    return part ? part(this, event) : "other";
  }

  /** Offers in the order in which a viewer wants them: what can be bought first. */
  sortedOffers() {
    const place = (offer) => {
      const index = this.show.run_order.indexOf(offer.sku);
      return index < 0 ? this.show.run_order.length : index;
    };
    const pinned = (offer) => (this.show.pins.includes(offer.sku) ? 0 : 1);
    return [...this.offers.values()].sort(
      (a, b) =>
        PHASE_RANK[a.phase] - PHASE_RANK[b.phase] ||
        pinned(a) - pinned(b) ||
        place(a) - place(b) ||
        (a.id < b.id ? -1 : 1),
    );
  }
}

const FOLDS = {
  show(model, { show, at }) {
    model.takeShow({ ...model.show, ...show }, at);
    return "show";
  },
  offer(model, { offer, at }) {
    model.takeOffer(offer, at);
    return "offers";
  },
  product(model, { skus }) {
    model.show = { ...model.show, pins: skus };
    return "offers";
  },
  announcement(model, { text, until }) {
    model.show = { ...model.show, announcement: text ? { text, until: until ?? null } : null };
    return "show";
  },
  pulse(model, { at, viewers, offers, reactions }) {
    if (at < model.pulseAt) return "pulse";
    model.pulseAt = at;
    model.viewers = viewers;
    model.reactions = reactions || {};
    for (const figures of offers || []) model.takeFigures(figures, at);
    return "pulse";
  },
  "chat.message"(model, message) {
    if (model.chat.some((line) => line.id === message.id)) return "chat";
    model.chat.push(message);
    if (model.chat.length > CHAT_LINES_MAX) model.chat.shift();
    return "chat";
  },
  "chat.deleted"(model, { id }) {
    model.chat = model.chat.filter((line) => line.id !== id);
    if (model.pinned?.id === id) model.pinned = null;
    return "chat";
  },
  "chat.pinned"(model, { id, text }) {
    model.pinned = text ? { id, text } : null;
    return "chat";
  },
  hold(model, { type, hold, at }) {
    if (at < model.meAt) return "me";
    model.takeHold(type === "hold.expired" ? { ...hold, state: "expired" } : hold);
    if (type === "hold.granted") {
      for (const { offer } of hold.items) model.waiting.delete(offer);
    }
    return "me";
  },
  order(model, { order, at }) {
    model.takeOrder(order, at);
    return "me";
  },
  payment() {
    return "me";
  },
  desk() {
    return "desk";
  },
};
